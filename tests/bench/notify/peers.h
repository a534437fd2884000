#pragma once

// The durable job systems of other people that dmm is measured against: BullMQ, graphile-worker,
// pg-boss and nats-jobs, each with a no-op handler in a Node.js process that also enqueues (see
// peers/run.js), and with its server beside it. Not thread-safe.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dmm/testing/nats_server.h"

namespace dmm::bench {

/// What one of them did in one round.
struct PeerRun {
  std::string system;    ///< "bullmq 6.7.0, Redis 7.0.15, ...": version first, then the settings
  double rate = 0;       ///< jobs a second
  double client_us = 0;  ///< CPU time of each job, enqueuing included
  double server_us = 0;
};

class Peers final {
 public:
  /// Starts the servers that they need, besides `nats`, on free loopback ports.
  ///
  /// directory   peers/ with its npm packages installed.
  /// throws      dmm::Error{not_found} that names the package to install; std::invalid_argument
  ///             there are no packages in `directory`.
  Peers(std::filesystem::path directory, const testing::NatsServer& nats);
  /// Ends the servers.
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  /// "bullmq", "graphile-worker", "pg-boss", "nats-jobs".
  const std::vector<std::string>& names() const noexcept;

  /// Works `count` jobs while they are enqueued, 64 in flight.
  /// throws   std::runtime_error with what the process wrote, when it failed.
  PeerRun steady(const std::string& name, std::size_t count);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::bench
