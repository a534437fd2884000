#pragma once

// The world of one measurement: a namespace on the server with its report stream, the zones, and
// someone who publishes what the fleet reports. One thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "dmm/testing/nats_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/wire.h"
#include "tests/bench/loop/fleet.h"
#include "tests/bench/loop/subjects.h"
#include "tests/bench/support/nats_link.h"

namespace dmm::bench {

class Stage final {
 public:
  /// Makes the streams of a namespace that is not used otherwise, and the zones.
  Stage(const testing::NatsServer& server, const std::string& ns);
  /// Deletes them.
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  /// Publishes the present report of these devices, confirmed when it returns.
  void report_all(const Fleet& fleet);
  /// Publishes the next `count` reports of the fleet, each device in turn.
  void report_next(Fleet& fleet, std::size_t count);
  /// Stores what the view has to say of each device, as a worker would have.
  void store_entries(const Fleet& fleet);

  /// Throws unless the work stream holds a token for each device that says its row, and no other.
  void verify_tokens(const Fleet& fleet);
  std::uint64_t tokens();
  void purge_tokens();

  Role role(const std::string& name, bool and_cache = false);
  /// The view, which keeps snapshots.
  Role role_with_snapshots();
  pid_t server_pid() const { return server_.pid(); }

 private:
  /// Makes message number i, to be answered at `reply`.
  using Make = std::function<void(std::size_t i, const std::string& reply, natsMsg** message)>;
  void publish(std::size_t count, const Make& make);
  void open_namespace();
  void open_zones();

  const testing::NatsServer& server_;
  const std::string ns_;
  const wire::Names names_;
  Connection connection_;
  testing::TemporaryDirectory directory_;
  int boards_ = 0;
};

}  // namespace dmm::bench
