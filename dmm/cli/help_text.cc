#include "dmm/cli/help_text.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

namespace dmm::cli {

namespace {

/// CLI11's own says of types and limits what only programmers want to know.
class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(34);
    label("SUBCOMMAND", "VERB");
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return {};
    std::string text = " " + value_of(*option);
    if (const std::string usual = option->get_default_str(); !usual.empty()) {
      text += fmt::format(" ({})", usual);
    }
    if (option->get_required() && !option->get_positional()) text += ", required";
    if (option->get_expected_max() == CLI::detail::expected_max_vector_size) text += " ...";
    return text;
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string variable = option->get_envname();
    return option->get_description() + (variable.empty() ? "" : fmt::format(" [{}]", variable));
  }
};

}  // namespace

std::string value_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t colon = type.find(':');
  if (colon == std::string::npos) return type;
  // Behind the colon stands what its value is checked against: a set of words, or something else.
  if (type.compare(colon, 2, ":{") != 0 || type.back() != '}') return type.substr(0, colon);
  std::string words = type.substr(colon + 2, type.size() - colon - 3);
  std::ranges::replace(words, ',', '|');
  return words;
}

std::shared_ptr<CLI::FormatterBase> help_formatter() {
  return std::make_shared<HelpFormatter>();
}

}  // namespace dmm::cli
