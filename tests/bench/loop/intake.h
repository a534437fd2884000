#pragma once

// How fast reports are taken in, of which one in a hundred changes anything.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dmm/testing/nats_server.h"

namespace dmm::bench {

struct IntakeSize {
  std::size_t devices = 100'000;
  std::size_t reports = 1'000'000;
  /// Reports that wait while the reader is frozen, then are taken in. At most one of each device.
  std::size_t burst = 25'000;
};

/// What one side did, a value for each burst.
struct IntakeSide {
  std::vector<double> rate;       ///< reports a second
  std::vector<double> cpu_us;     ///< of the process, each report
  std::vector<double> server_us;  ///< of the server
  double peak_bytes = 0;
};

struct Intake {
  IntakeSide bare;
  IntakeSide view;
  std::uint64_t changed = 0;  ///< rows, by the oracle; the view has notified as many
};

/// Throws if the view notified other identities than the oracle, or another number of times.
Intake measure_intake(const testing::NatsServer& server, const IntakeSize& size);

}  // namespace dmm::bench
