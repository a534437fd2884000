#pragma once

// The tool as a user sees it: on a terminal.

#include <cstddef>
#include <map>
#include <string>

#include "runner.h"

namespace dmm::cli_test {

struct Shown {
  int code = -1;     ///< exit code; -1 if a signal ended it
  std::string text;  ///< as the terminal gets it, with its line ends turned into "\n"
};

/// Runs the tool on a terminal `columns` wide and types `keys`.
/// interrupts   it ends by Ctrl-C only: that is typed as soon as it has shown something.
Shown on_terminal(const Site& site, const Arguments& arguments, unsigned short columns,
                  const std::map<std::string, std::string>& more = {}, const std::string& keys = {},
                  bool interrupts = false);

/// In columns.
std::size_t widest_line(const std::string& text);

}  // namespace dmm::cli_test
