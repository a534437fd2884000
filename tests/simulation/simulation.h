#pragma once

// A simulation: a plan, carried out by the production code of workers, lanes, observers and views
// on a virtual clock, with a journal of all that happened and a verdict on it. The same plan is the
// same history, byte by byte.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/simulation/bugs.h"
#include "tests/simulation/journal.h"
#include "tests/simulation/plan.h"

namespace dmm::simulation {

struct RunOptions {
  Bug bug = Bug::none;
  bool history = false;  ///< write down what happened
  bool logs = false;     ///< and what the workers logged
};

/// How often workers came to a crash point, and were killed there.
struct Reached {
  std::uint64_t times = 0;
  std::uint64_t kills = 0;
};

struct Verdict {
  std::vector<Violation> violations;
  std::vector<std::string> history;  ///< lines
  std::uint64_t runs = 0;            ///< that succeeded
  std::uint64_t switches = 0;        ///< how often another thread went on
  Time simulated{};
  std::uint64_t digest = 0;  ///< of all that happened
  std::map<std::string, Reached> points;
};

Verdict simulate(const Plan& plan, const RunOptions& options);

}  // namespace dmm::simulation
