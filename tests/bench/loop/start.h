#pragma once

// How long a view takes from its start until it serves: with empty caches, and with caches that say
// what its rows say.

#include <cstddef>
#include <vector>

#include "dmm/testing/nats_server.h"

namespace dmm::bench {

/// A value for each round; times in seconds.
struct Start {
  std::vector<double> replay;         ///< the bare client reads the same reports
  std::vector<double> cold;           ///< until the view has its rows and has looked at the caches
  std::vector<double> cold_told;      ///< until every identity is notified as well
  std::vector<double> replay_cached;  ///< the bare client reads the reports, then the cache
  std::vector<double> resync;         ///< until the view has found that nothing is to be told
  std::vector<double> snapshot_resync;  ///< the same as resync, with a snapshot of before
  std::vector<double> snapshot;         ///< with one of before the last reports, 1 % of the objects
  std::vector<double> snapshot_stall;   ///< for so long the owner did nothing but make it
  double snapshot_peak_bytes = 0;
  double cold_peak_bytes = 0;
  double resync_peak_bytes = 0;
};

/// resync   also with the caches filled. Throws if the tokens are not what they should be.
Start measure_start(const testing::NatsServer& server, std::size_t objects, std::size_t rounds,
                    bool resync);

}  // namespace dmm::bench
