#pragma once

// A crew: processes that share the seeds of a range. A seed whose process ends by a signal, or by
// an assertion, counts as a violation, and another process goes on behind it.

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "tests/simulation/simulation.h"

namespace dmm::simulation {

/// What one seed came to, as it is told by one process to another.
struct Told {
  std::uint64_t seed = 0;
  bool violated = false;
  std::uint64_t runs = 0;
  std::uint64_t switches = 0;
  std::int64_t simulated_ms = 0;
  std::string text;  ///< of violations, or a history
  std::map<std::string, Reached> points = {};
};

struct Crew {
  std::uint64_t from = 0;
  std::uint64_t seeds = 0;
  unsigned jobs = 1;
};

/// work   simulates a seed, in a process of the crew.
/// hear   is called in this process for each seed; false: that is enough.
void run_crew(const Crew& crew, const std::function<Told(std::uint64_t seed)>& work,
              const std::function<bool(const Told& told)>& hear);

}  // namespace dmm::simulation
