#include "dmm/testing/memory_server.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/memory_connection.h"
#include "dmm/testing/internal/seed.h"
#include "dmm/testing/memory_transport.h"

namespace dmm::testing {

namespace {

bool plays(Part wanted, const std::string& stream) {
  return wanted == Part::any || part_of_stream(stream) == wanted;
}

}  // namespace

MemoryServer::MemoryServer(MemoryServerOptions options)
    : core_(std::make_shared<MemoryCore>(options)) {}

std::shared_ptr<MemoryTransport> MemoryServer::connect(std::optional<std::uint64_t> seed) const {
  if (!seed) seed = seed_of_environment();
  const bool drawn = !seed;
  if (drawn) seed = internal::random_seed();
  return std::make_shared<MemoryTransport>(std::make_shared<MemoryConnection>(core_, *seed, drawn));
}

Sequence MemoryServer::put(std::string subject, std::string payload, transport::Headers headers,
                           std::optional<std::chrono::system_clock::time_point> at) {
  const transport::Publication publication{
      .subject = std::move(subject), .headers = std::move(headers), .payload = std::move(payload)};
  auto stored = core_->publish(publication, at);
  if (!stored) {
    throw Error(code::stream_missing, fmt::format("no stream takes {}", publication.subject));
  }
  return stored->value();
}

std::optional<transport::Message> MemoryServer::look(const std::string& subject) const {
  return core_->look(subject);
}

void MemoryServer::restart(Loss loss) {
  for (const transport::StreamConfig& config : core_->configs()) {
    if (plays(loss.stream, config.name)) core_->lose_last(config.name, loss.messages);
  }
  core_->reconnect_all();
}

void MemoryServer::recreate(Part stream) {
  for (const transport::StreamConfig& config : core_->configs()) {
    if (plays(stream, config.name)) core_->recreate(config.name, {});
  }
}

}  // namespace dmm::testing
