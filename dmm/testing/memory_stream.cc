#include "dmm/testing/memory_stream.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/testing/internal/memory_connection.h"
#include "dmm/testing/internal/memory_reader.h"

namespace dmm::testing {

using transport::Completion;
using transport::Message;

MemoryStream::MemoryStream(std::shared_ptr<MemoryConnection> connection,
                           transport::StreamConfig config, bool may_create)
    : connection_(std::move(connection)),
      config_(std::move(config)),
      part_(part_of_stream(config_.name)),
      may_create_(may_create) {
  see(connection_->core().open(config_, may_create_).created);
}

MemoryStream::~MemoryStream() = default;

// ---- for tests

Sequence MemoryStream::put(std::string subject, std::string payload, transport::Headers headers,
                           std::optional<std::chrono::system_clock::time_point> at) {
  transport::Publication publication{
      .subject = std::move(subject), .headers = std::move(headers), .payload = std::move(payload)};
  auto stored = connection_->core().publish(publication, at);
  if (!stored) {
    throw Error(code::stream_missing, fmt::format("no stream takes {}", publication.subject));
  }
  return stored->value();
}

std::optional<Message> MemoryStream::look(const std::string& subject) const {
  return connection_->core().last(config_.name, subject).value();
}

void MemoryStream::lose_history(std::string created) {
  connection_->core().recreate(config_.name, std::move(created));
}

void MemoryStream::hold(Call call) {
  connection_->faults().add(FaultBook::Kind::hold, {.stream = part_, .call = call});
}

void MemoryStream::let_go(Call call) {
  for (FaultBook::Answer& answer : connection_->faults().let_go(part_, call)) {
    connection_->deliver(std::move(answer));
  }
}

std::size_t MemoryStream::held(Call call) const {
  return connection_->faults().held(part_, call);
}

std::size_t MemoryStream::readers() const {
  return connection_->core().readers(config_.name);
}

// ---- transport::Stream

void MemoryStream::publish(transport::Publication publication, std::chrono::milliseconds deadline,
                           Completion<Sequence> done) {
  connection_->publish(part_, std::move(publication), deadline, std::move(done));
}

void MemoryStream::last(std::string subject, Completion<std::optional<Message>> done) {
  ++single_reads_;
  connection_->call<std::optional<Message>>(
      part_, Call::last, subject, "reading " + subject,
      [&core = connection_->core(), name = config_.name, subject] {
        return core.last(name, subject);
      },
      std::move(done));
}

void MemoryStream::erase(Sequence sequence, Completion<bool> done) {
  MemoryCore& core = connection_->core();
  connection_->call<bool>(
      part_, Call::erase, core.subject_of(config_.name, sequence),
      fmt::format("deleting message {} of {}", sequence.value, config_.name),
      [&core, name = config_.name, sequence] { return core.erase(name, sequence); },
      std::move(done));
}

std::unique_ptr<transport::Reader> MemoryStream::read(transport::ReadOptions options,
                                                      transport::ReaderSink& sink) {
  ++scans_;
  return std::make_unique<MemoryReader>(connection_, config_, may_create_, std::move(options),
                                        sink);
}

transport::StreamState MemoryStream::state() {
  const std::string what = "reading the state of stream " + config_.name;
  connection_->ask(part_, config_.name, what);
  MemoryCore& core = connection_->core();
  const auto state = core.state(config_.name);
  if (!state) {
    // Asking for a stream that is gone brings it back.
    if (may_create_) core.open(config_, true);
    throw Error(code::stream_missing, what + ": stream not found");
  }
  see(state->created);
  return *state;
}

std::vector<std::string> MemoryStream::subjects(std::string_view filter) {
  state();
  return connection_->core().subjects(config_.name, filter);
}

std::string MemoryStream::created() const {
  const std::lock_guard lock(mutex_);
  return created_;
}

void MemoryStream::see(std::string created) {
  const std::lock_guard lock(mutex_);
  created_ = std::move(created);
}

}  // namespace dmm::testing
