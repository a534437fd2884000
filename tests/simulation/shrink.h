#pragma once

#include <chrono>
#include <string>

#include "tests/simulation/simulation.h"

namespace dmm::simulation {

/// Leaves out what is not needed: looks for a plan of fewer steps that breaks the same promise, for
/// at most so long in real time.
Plan shrink(const Plan& plan, const RunOptions& options, const std::string& promise,
            std::chrono::milliseconds patience);

}  // namespace dmm::simulation
