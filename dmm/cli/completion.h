#pragma once

#include <string>

namespace CLI {
class App;
}

namespace dmm::cli {

/// Scripts that complete verbs, options and their values, made from the tree of verbs.
std::string bash_completion(const CLI::App& root);
std::string zsh_completion(const CLI::App& root);
std::string fish_completion(const CLI::App& root);

}  // namespace dmm::cli
