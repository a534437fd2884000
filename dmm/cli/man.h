#pragma once

#include <string>

namespace CLI {
class App;
}

namespace dmm::cli {

/// The manual page dmm(1) as roff, made from the tree of verbs.
std::string man_page(const CLI::App& root, const std::string& version);

}  // namespace dmm::cli
