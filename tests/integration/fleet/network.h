#pragma once

// A server behind a network that tests can break, and what they ask the server itself.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "dmm/testing/nats_server.h"
#include "dmm/transport/stream.h"

namespace dmm::integration {

std::string url_of(std::uint16_t port);

/// Opens the namespace of the tests on a connection of its own to these ports.
Bucket open_bucket_at(const std::vector<std::uint16_t>& ports, int replicas = 1);
/// The same on a given connection, whose reconnects can then be counted.
Bucket open_bucket_on(std::shared_ptr<transport::Transport> connection);
std::shared_ptr<transport::Transport> connect_to(const std::vector<std::uint16_t>& ports);

/// Asks the JetStream API ("STREAM.INFO.x") over a connection of its own.
nlohmann::json ask(std::uint16_t port, const std::string& what,
                   const nlohmann::json& request = nullptr);
/// Removes a stream behind everybody's back.
void remove_stream(std::uint16_t port, const std::string& name);
/// Consumers of all streams of the namespace of the tests.
std::uint64_t consumers(Bucket& bucket);

/// The directory in which a stopped server keeps a stream.
std::filesystem::path files_of(const testing::NatsServer& server, const std::string& stream);

/// Servers that hold streams together, each stream on all of them; or one alone.
class Cluster final {
 public:
  explicit Cluster(std::size_t size = 3);
  std::vector<std::uint16_t> ports() const;
  std::size_t size() const noexcept { return servers_.size(); }
  testing::NatsServer& server(std::size_t index) { return *servers_[index]; }
  /// Which one leads a stream. Waits for one to be elected.
  std::size_t leader_of(const std::string& stream);

 private:
  testing::TemporaryDirectory directory_;
  std::vector<std::unique_ptr<testing::NatsServer>> servers_;
};

}  // namespace dmm::integration
