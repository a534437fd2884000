#include "dmm/testing/memory_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/testing/internal/memory_connection.h"

namespace dmm::testing {

std::shared_ptr<MemoryTransport> MemoryTransport::create(std::optional<std::uint64_t> seed) {
  return MemoryServer().connect(seed);
}

MemoryTransport::MemoryTransport(std::shared_ptr<MemoryConnection> connection)
    : connection_(std::move(connection)), faults_(*connection_) {
  facts_.url = "memory://";
  facts_.name = "memory";
  facts_.jetstream = true;
  facts_.payload_bytes_max = connection_->core().payload_bytes_max();
}

MemoryTransport::~MemoryTransport() {
  MemoryTransport::close();
}

MemoryServer MemoryTransport::server() const {
  return MemoryServer(connection_->shared_core());
}

std::shared_ptr<MemoryStream> MemoryTransport::stream(Part part) {
  for (const transport::StreamConfig& config : connection_->core().configs()) {
    if (part_of_stream(config.name) != part) continue;
    return std::make_shared<MemoryStream>(connection_, config, false);
  }
  throw Error(code::stream_missing, "no namespace was opened on this server");
}

void MemoryTransport::tell(transport::ServerFacts facts) {
  const std::lock_guard lock(mutex_);
  facts_ = std::move(facts);
}

std::shared_ptr<transport::Stream> MemoryTransport::open(const transport::StreamConfig& config,
                                                         bool create) {
  connection_->ask(part_of_stream(config.name), config.name, "opening stream " + config.name);
  return std::make_shared<MemoryStream>(connection_, config, create);
}

bool MemoryTransport::remove(std::string_view stream_name) {
  connection_->ask(part_of_stream(stream_name), stream_name,
                   fmt::format("removing stream {}", stream_name));
  return connection_->core().remove(stream_name);
}

std::shared_ptr<transport::Messenger> MemoryTransport::messenger() {
  return {connection_, &connection_->messenger()};
}

transport::ServerFacts MemoryTransport::facts() {
  connection_->ask(Part::any, "", "asking the server what it is");
  transport::ServerFacts facts;
  {
    const std::lock_guard lock(mutex_);
    facts = facts_;
  }
  MemoryCore& core = connection_->core();
  for (const transport::StreamConfig& config : core.configs()) {
    ++facts.streams;
    if (const auto state = core.state(config.name)) {
      facts.consumers += state->consumers;
      facts.storage_bytes += state->bytes;
    }
  }
  return facts;
}

bool MemoryTransport::connected() const {
  return connection_->linked() && !connection_->closed();
}

std::uint64_t MemoryTransport::reconnects() const {
  return connection_->reconnects();
}

void MemoryTransport::close() {
  connection_->close();
}

}  // namespace dmm::testing
