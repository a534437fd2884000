#pragma once

// The stage of the demo: servers of its own, the fleet of players, two workers; all as processes
// that end with this object.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "example/commands.h"
#include "example/desired.h"

namespace example {

/// Used by the thread that made it.
class Stage final {
 public:
  /// Starts everything. Throws dmm::Error that names what is missing.
  Stage(Options options, const DemoOptions& demo_options);
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  /// Where everything is.
  const Options& options() const noexcept { return options_; }
  dmm::Bucket& bucket() noexcept { return *bucket_; }
  DesiredSongs& desired() noexcept { return *desired_; }

  /// kill -9 of one of the two workers.
  void crash_worker();
  /// How many lanes, of 64, each worker has: the fewest and the most.
  std::pair<std::size_t, std::size_t> lanes();

  /// kill -9 of the fleet, and a new one: all players have forgotten everything.
  void cut_power();
  /// The requests that players were sent so far: answered, refused, hung, error500.
  nlohmann::json requests();

  /// Throws std::runtime_error with the end of its output if a process ended that should not have.
  void check();
  /// Ends the worker that is left. Returns what it has done: runs, succeeded, failed, coalesced.
  nlohmann::json finish_worker();

  /// Shell lines that let other commands find this stage.
  std::vector<std::string> environment() const;

 private:
  using Process = std::unique_ptr<dmm::testing::ChildProcess>;

  Process start(const std::string& command, std::vector<std::string> arguments);
  void start_fleet();
  Process start_worker();

  Options options_;
  const DemoOptions demo_options_;
  std::unique_ptr<dmm::testing::NatsServer> nats_;
  std::unique_ptr<dmm::testing::PostgresServer> postgres_;
  std::unique_ptr<dmm::Bucket> bucket_;
  std::unique_ptr<DesiredSongs> desired_;
  int fleet_port_ = 0;
  Process fleet_;
  nlohmann::json requests_of_past_fleets_;
  Process worker_;  ///< nothing after it was crashed
  Process other_worker_;
};

}  // namespace example
