#pragma once

#include <chrono>
#include <cstddef>

#include "tests/bench/support/report.h"

namespace dmm::bench {

struct FleetSize {
  std::size_t identities = 1'000;   ///< ordinary ones
  double rate = 200;                ///< of their news, a second
  std::chrono::seconds time{30};    ///< of each measurement
  std::size_t backlog = 1'000'000;  ///< tokens
  double hot_rate = 10'000;         ///< notifies a second of one identity
};

/// One identity in a hundred throws, hangs or crashes its worker, beside a fleet without.
void measure_poison(const FleetSize& size, Report& report);
/// Tokens that waited for a worker, and news that come meanwhile.
void measure_backlog(const FleetSize& size, Report& report);
/// One identity that is notified without end, beside a fleet without. Throws if two of its runs
/// overlapped, or one was given older news than the one before.
void measure_hot(const FleetSize& size, Report& report);
/// An ordinary load for so long: does anything grow?
void measure_soak(const FleetSize& size, std::chrono::seconds time, Report& report);

}  // namespace dmm::bench
