#include "dmm/testing/internal/memory_core.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/fault_book.h"
#include "dmm/testing/internal/memory_connection.h"
#include "dmm/testing/internal/memory_reader.h"
#include "dmm/testing/internal/subject.h"

namespace dmm::testing {

namespace {

using std::chrono::system_clock;
using transport::Message;
using transport::Note;
using transport::StreamConfig;
using transport::StreamState;

constexpr std::string_view kDirectGet = "$JS.API.DIRECT.GET.";

/// As nats-server writes a time.
std::string time_text(system_clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(seconds.count()),
                     std::chrono::nanoseconds(since - seconds).count());
}

Error missing(std::string_view what, std::string_view name) {
  return Error(code::stream_missing, fmt::format("{}: stream {} not found", what, name));
}

}  // namespace

// ---- streams

StreamState MemoryCore::open(const StreamConfig& config, bool create_it) {
  const std::lock_guard lock(mutex_);
  auto found = logs_.find(config.name);
  if (found == logs_.end()) {
    if (!create_it) throw missing("opening", config.name);
    found = create(config, {});
  }
  return found->second.state();
}

/// Under the mutex.
MemoryCore::Logs::iterator MemoryCore::create(const StreamConfig& config, std::string created) {
  if (created.empty()) created = next_created();
  logs_.erase(config.name);
  const auto log = logs_.emplace(config.name, MemoryLog(config, std::move(created))).first;
  look_again(config.name);
  for (MemoryConnection* connection : connections_) connection->retry();
  return log;
}

/// Never the same twice.
std::string MemoryCore::next_created() {
  last_created_ = std::max(now(), last_created_ + system_clock::duration(1));
  return time_text(last_created_);
}

bool MemoryCore::remove(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto found = logs_.find(name);
  if (found == logs_.end()) return false;
  logs_.erase(found);
  look_again(name);
  return true;
}

void MemoryCore::bring_back(const StreamConfig& config) {
  if (!logs_.contains(config.name)) create(config, {});
}

MemoryLog* MemoryCore::log(std::string_view name) {
  const auto found = logs_.find(name);
  return found == logs_.end() ? nullptr : &found->second;
}

const MemoryLog* MemoryCore::log(std::string_view name) const {
  const auto found = logs_.find(name);
  return found == logs_.end() ? nullptr : &found->second;
}

/// Under the mutex.
MemoryLog* MemoryCore::taker(std::string_view subject) {
  const auto found =
      std::ranges::find_if(logs_, [&](const auto& named) { return named.second.takes(subject); });
  return found == logs_.end() ? nullptr : &found->second;
}

bool MemoryCore::takes(std::string_view subject) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(logs_, [&](const auto& named) { return named.second.takes(subject); });
}

std::optional<Result<Sequence>> MemoryCore::publish(const transport::Publication& publication,
                                                    std::optional<system_clock::time_point> at) {
  const std::lock_guard lock(mutex_);
  MemoryLog* const log = taker(publication.subject);
  if (log == nullptr) return std::nullopt;
  // Who listens hears of it, whether it is stored or not.
  pass({.subject = publication.subject,
        .headers = publication.headers,
        .payload = publication.payload});
  const Sequence before{log->last()};
  Result<Sequence> stored =
      log->store(publication.subject, publication.headers, publication.payload,
                 publication.expected_last, at.value_or(now()));
  // One that was stored before under the same id is not stored again.
  if (stored.ok()) changed(*log, stored.value() > before ? stored.value() : Sequence());
  return stored;
}

Result<std::optional<Message>> MemoryCore::last(const std::string& name,
                                                const std::string& subject) const {
  const std::lock_guard lock(mutex_);
  const MemoryLog* const found = log(name);
  if (found == nullptr) {
    return Error(code::timed_out, fmt::format("reading {}: nobody answers", subject));
  }
  const Message* const message = found->last_of(subject);
  return message == nullptr ? std::optional<Message>() : std::optional<Message>(*message);
}

Result<bool> MemoryCore::erase(const std::string& name, Sequence sequence) {
  const std::lock_guard lock(mutex_);
  MemoryLog* const found = log(name);
  if (found == nullptr) return missing("deleting a message", name);
  const bool erased = found->erase(sequence.value);
  if (erased) changed(*found);
  return erased;
}

std::optional<StreamState> MemoryCore::state(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const MemoryLog* const found = log(name);
  if (found == nullptr) return std::nullopt;
  StreamState state = found->state();
  for (const MemoryConnection* connection : connections_) {
    state.consumers += connection->readers_of(name);
  }
  return state;
}

std::vector<std::string> MemoryCore::subjects(const std::string& name,
                                              std::string_view filter) const {
  const std::lock_guard lock(mutex_);
  const MemoryLog* const found = log(name);
  if (found == nullptr) throw missing("listing subjects", name);
  return found->subjects(filter);
}

std::string MemoryCore::subject_of(const std::string& name, Sequence sequence) const {
  const std::lock_guard lock(mutex_);
  const MemoryLog* const found = log(name);
  const Message* const message = found == nullptr ? nullptr : found->find(sequence.value);
  return message == nullptr ? std::string() : message->subject;
}

std::optional<Message> MemoryCore::look(const std::string& subject) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, log] : logs_) {
    if (const Message* message = log.last_of(subject)) return *message;
  }
  return std::nullopt;
}

std::vector<StreamConfig> MemoryCore::configs() const {
  const std::lock_guard lock(mutex_);
  std::vector<StreamConfig> all;
  for (const auto& [name, log] : logs_) all.push_back(log.config());
  return all;
}

void MemoryCore::recreate(const std::string& name, std::string created) {
  const std::lock_guard lock(mutex_);
  const MemoryLog* const found = log(name);
  if (found == nullptr) throw missing("creating it anew", name);
  const StreamConfig config = found->config();
  create(config, std::move(created));
  ++changes_;
}

void MemoryCore::lose_last(const std::string& name, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  MemoryLog* const found = log(name);
  if (found == nullptr || count == 0) return;
  found->lose_last(count);
  for (MemoryConnection* connection : connections_) connection->look_now(name);
  ++changes_;
}

std::size_t MemoryCore::readers(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const MemoryConnection* connection : connections_) count += connection->readers_of(name);
  return count;
}

void MemoryCore::set_witness(Witness witness) {
  const std::lock_guard lock(mutex_);
  witness_ = std::move(witness);
}

system_clock::time_point MemoryCore::now() const {
  return began_ + std::chrono::duration_cast<system_clock::duration>(internal::SteadyClock::now() -
                                                                     began_steady_);
}

/// Readers may be owed something. Under the mutex.
void MemoryCore::changed(const MemoryLog& log, Sequence sequence) {
  if (witness_ && sequence) witness_(*log.find(sequence.value));
  const Part part = part_of_stream(log.config().name);
  if (part != Part::leases && part != Part::status) ++changes_;
  for (MemoryConnection* connection : connections_) {
    if (connection->reads(log.config().name)) connection->wake();
  }
}

/// The readers of a stream look whether it is the one that they know. Under the mutex.
void MemoryCore::look_again(std::string_view name) {
  for (MemoryConnection* connection : connections_) connection->look_again(name);
}

// ---- connections

void MemoryCore::attach(MemoryConnection& connection) {
  const std::lock_guard lock(mutex_);
  connections_.push_back(&connection);
}

void MemoryCore::detach(MemoryConnection& connection) {
  const std::lock_guard lock(mutex_);
  std::erase(connections_, &connection);
  std::erase_if(listeners_,
                [&](const auto& numbered) { return numbered.second.connection == &connection; });
}

void MemoryCore::reconnect_all() {
  const std::lock_guard lock(mutex_);
  for (MemoryConnection* connection : connections_) connection->reconnected();
}

// ---- messages that are passed on

std::uint64_t MemoryCore::listen(Listener listener) {
  const std::lock_guard lock(mutex_);
  listeners_.emplace(++listened_, std::move(listener));
  return listened_;
}

void MemoryCore::unlisten(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  listeners_.erase(number);
}

void MemoryCore::send(const Note& note) {
  const std::lock_guard lock(mutex_);
  if (note.subject.starts_with(kDirectGet)) return answer_direct_get(note);
  const bool heard = pass(note) > 0;
  if (MemoryLog* const log = taker(note.subject)) {
    const Sequence before{log->last()};
    const Result<Sequence> stored =
        log->store(note.subject, note.headers, note.payload, std::nullopt, now());
    if (stored.ok()) changed(*log, stored.value() > before ? stored.value() : Sequence());
    if (!note.reply.empty() && stored.ok()) {
      pass({.subject = note.reply,
            .payload = fmt::format(R"({{"stream":"{}", "seq":{}}})", log->config().name,
                                   stored.value().value)});
    }
    return;
  }
  if (heard || note.reply.empty()) return;
  Note unheard{.subject = note.reply};
  unheard.unheard = true;
  pass(unheard);
}

/// "<stream>.<subject>": its last message, as devices ask for it. Under the mutex.
void MemoryCore::answer_direct_get(const Note& note) {
  const std::string_view asked = std::string_view(note.subject).substr(kDirectGet.size());
  const std::size_t dot = std::min(asked.find('.'), asked.size());
  const MemoryLog* const found = log(asked.substr(0, dot));
  if (found == nullptr || note.reply.empty()) return;  // then nobody answers
  const std::string subject(asked.substr(std::min(dot + 1, asked.size())));
  Note answer{.subject = note.reply};
  if (const Message* const message = found->last_of(subject)) {
    answer.payload = message->payload;
    answer.headers = message->headers;
    answer.headers.insert(answer.headers.end(),
                          {{"Nats-Stream", found->config().name},
                           {"Nats-Subject", message->subject},
                           {"Nats-Sequence", std::to_string(message->sequence.value)},
                           {"Nats-Time-Stamp", time_text(message->stored_at)}});
  } else {
    answer.headers = {{"Status", "404"}, {"Description", "Message Not Found"}};
  }
  pass(answer);
}

/// Gives a note to whoever listens; returns to how many. Under the mutex.
std::size_t MemoryCore::pass(const Note& note) {
  std::size_t count = 0;
  std::map<std::string, std::vector<const Listener*>> groups;
  for (const auto& [number, listener] : listeners_) {
    if (!listener.connection->linked() || !subject_matches(listener.filter, note.subject)) continue;
    if (!listener.group.empty()) {
      groups[listener.group].push_back(&listener);
      continue;
    }
    listener.deliver(note);
    ++count;
  }
  for (const auto& [group, members] : groups) {
    members[++turn_ % members.size()]->deliver(note);
    ++count;
  }
  return count;
}

// ---- for those who wait

std::uint64_t MemoryCore::changes() const {
  const std::lock_guard lock(mutex_);
  return changes_;
}

std::vector<std::string> MemoryCore::behind() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> all;
  for (const MemoryConnection* connection : connections_) connection->tell_behind(all);
  return all;
}

}  // namespace dmm::testing
