#pragma once

// A MemoryTransport is a connection to a MemoryServer: what a bucket of a test works on instead of
// NATS.
//
//     auto memory = dmm::testing::MemoryTransport::create();
//     auto bucket = dmm::Bucket::open("music", {.transport = memory});
//     memory->faults().in_doubt({.stream = dmm::testing::Part::work, .share = 0.1});
//
// A bucket closes its transport, so each has one of its own; those of one server see the same
// streams: `Bucket::open("music", {.transport = memory->server().connect()})`.
//
// Answers, readers and subscriptions come on threads of the connection, as with NATS. Time is real.

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "dmm/testing/faults.h"
#include "dmm/testing/memory_server.h"
#include "dmm/testing/memory_stream.h"
#include "dmm/transport/messenger.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

class MemoryTransport final : public transport::Transport {
 public:
  /// A connection to a server of its own.
  static std::shared_ptr<MemoryTransport> create(std::optional<std::uint64_t> seed = {});
  /// Of MemoryServer::connect().
  explicit MemoryTransport(std::shared_ptr<MemoryConnection> connection);
  /// As close().
  ~MemoryTransport() override;

  Faults& faults() noexcept { return faults_; }
  MemoryServer server() const;

  /// A stream of the first namespace there is. Throws Error{not_found} DMM-0107.
  std::shared_ptr<MemoryStream> stream(Part part);
  /// What facts() says from now on, but for the numbers of streams and consumers, which are
  /// counted.
  void tell(transport::ServerFacts facts);

  // transport::Transport
  std::shared_ptr<transport::Stream> open(const transport::StreamConfig& config,
                                          bool create) override;
  bool remove(std::string_view stream_name) override;
  std::shared_ptr<transport::Messenger> messenger() override;
  transport::ServerFacts facts() override;
  bool connected() const override;
  std::uint64_t reconnects() const override;
  void close() override;

 private:
  friend class Worker;
  friend class World;
  friend struct Backstage;

  const std::shared_ptr<MemoryConnection> connection_;
  Faults faults_;
  std::mutex mutex_;
  transport::ServerFacts facts_;
};

}  // namespace dmm::testing
