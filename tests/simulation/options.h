#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/bugs.h"

namespace dmm::simulation {

struct Options {
  std::uint64_t seeds = 500;
  std::uint64_t from = 1;
  Bug bug = Bug::none;
  unsigned jobs = 0;     ///< processes; 0: one for each core
  bool history = false;  ///< print what happened, of each seed
  bool logs = false;     ///< with what the workers logged
  bool verbose = false;  ///< say how often each crash point was reached
  bool help = false;
};

/// Throws std::invalid_argument with what is wrong.
Options parse_options(int argc, char** argv);
std::string usage();

}  // namespace dmm::simulation
