#pragma once

// Job systems of other people on the same PostgreSQL: graphile-worker and pg-boss, each in a
// Node.js process (see peers/run.js). Not thread-safe.

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dmm/testing/postgres_server.h"

namespace dmm::bench {

struct ResourcePeer {
  std::string system;  ///< "graphile-worker 0.17.3, PostgreSQL 15.8, ..."
  /// By the name of the figure: "inform single", "work parallelism 10", ...
  std::map<std::string, double> values;
};

/// directory   peers/ with its npm packages installed.
/// Throws std::runtime_error with what the process wrote, when it failed.
std::vector<ResourcePeer> measure_resource_peers(const std::filesystem::path& directory,
                                                 const testing::PostgresServer& postgres,
                                                 std::size_t count);

}  // namespace dmm::bench
