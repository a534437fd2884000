#pragma once

// The servers of the area "resources", and dmm's side of each figure. Not thread-safe.

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"

namespace dmm::bench {

/// Milliseconds.
struct Latencies {
  double p50 = 0;
  double p99 = 0;
};

struct Expired {
  double rows_per_s = 0;
  double longest_statement_s = 0;
};

class ResourceScene final {
 public:
  ResourceScene();
  ~ResourceScene();
  ResourceScene(const ResourceScene&) = delete;
  ResourceScene& operator=(const ResourceScene&) = delete;

  const testing::PostgresServer& postgres() const noexcept { return postgres_; }

  /// Objects informed in a second in calls of one each.
  /// callers   at a time, of one Client.
  double inform_single(std::size_t count, std::size_t callers);
  /// The same in one INSERT and transaction each with libpqxx alone, into a table with the same
  /// columns that are filled.
  /// callers   at a time, each with a connection of its own, at most 64.
  double insert_single(std::size_t count, std::size_t callers);
  /// Objects informed in a second in calls of 500.
  double inform_batch(std::size_t count);
  double insert_batch(std::size_t count);
  /// Works that end in a second, with a backlog and a controller that does nothing.
  double work(std::size_t count, std::size_t parallelism);
  /// From the call of inform() until a follower of the events knows that it is synced.
  /// rate   informs a second.
  Latencies latency(std::size_t count, double rate);
  /// Rows that expire together: until all are told.
  Expired expire(std::size_t count);

 private:
  void reset();

  testing::PostgresServer postgres_;
  testing::NatsServer nats_;
  int namespaces_ = 0;  ///< each measurement has one of its own
};

}  // namespace dmm::bench
