#pragma once

#include <memory>
#include <string>

namespace CLI {
class FormatterBase;
class Option;
}  // namespace CLI

namespace dmm::cli {

/// What the help and the manual call the value of an option: "SECONDS", "table|json|yaml"; empty for
/// a flag.
std::string value_of(const CLI::Option& option);

/// How `--help` is laid out.
std::shared_ptr<CLI::FormatterBase> help_formatter();

}  // namespace dmm::cli
