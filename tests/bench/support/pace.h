#pragma once

#include <chrono>

namespace dmm::bench {

/// Returns at `then`: the pace of a measurement on an idle system.
void wait_until(std::chrono::steady_clock::time_point then);

}  // namespace dmm::bench
