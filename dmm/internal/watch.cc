#include "dmm/internal/watch.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dmm/internal/history.h"
#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/transport/messenger.h"
#include "dmm/wire.h"

namespace dmm::internal {

namespace {

using transport::Message;

// Changes on their way from the readers' threads to the one that watches. Holds no more than the
// readers were granted.
class Mailbox {
 public:
  struct Letter {
    std::size_t reader;
    std::optional<Change> change;  // none: a message of no meaning, which gives its grant back
  };

  /// most   of letters that wait; with as many there it is dropped.
  void put(Letter letter, std::size_t most = std::numeric_limits<std::size_t>::max()) {
    const std::lock_guard lock(mutex_);
    if (letters_.size() >= most) return;
    letters_.push_back(std::move(letter));
    arrived_.notify_one();
  }

  /// The next one; nothing once `stop` is requested.
  std::optional<Letter> take(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, stop, [this] { return !letters_.empty(); });
    if (stop.stop_requested()) return std::nullopt;
    Letter letter = std::move(letters_.front());
    letters_.pop_front();
    return letter;
  }

 private:
  std::mutex mutex_;
  internal::StopCondition arrived_;
  std::deque<Letter> letters_;
};

// What a message means: the change without value, sequence and time.
using Meaning = std::function<std::optional<Change>(const Message&)>;

class Sink final : public transport::ReaderSink {
 public:
  Sink(Mailbox& mailbox, std::size_t reader, Meaning meaning)
      : mailbox_(mailbox), reader_(reader), meaning_(std::move(meaning)) {}

  void on_message(Message message) noexcept override {
    std::optional<Change> change = meaning_(message);
    if (change) {
      change->value = std::move(message.payload);
      change->sequence = message.sequence;
      change->at = message.stored_at;
    }
    mailbox_.put({reader_, std::move(change)});
  }
  void on_caught_up() noexcept override {}
  // The messages of the new history come as changes by themselves.
  void on_history_lost(std::string) noexcept override {}

 private:
  Mailbox& mailbox_;
  const std::size_t reader_;
  const Meaning meaning_;
};

Change change_of(std::string_view what, std::string key) {
  Change change;
  change.what = what;
  change.key = std::move(key);
  return change;
}

std::optional<Change> token_change(const Message& message) {
  const auto parts = wire::split_token(message.subject);
  if (!parts) return std::nullopt;
  return change_of("token", fmt::format("{}.{}", parts->type, parts->id));
}

std::optional<Change> report_change(const Message& message) {
  const auto parts = wire::split_report(message.subject);
  if (!parts) return std::nullopt;
  return change_of("report", fmt::format("{}.{}", parts->kind, parts->device));
}

std::optional<Change> entry_change(const wire::Names& names, const Message& message) {
  return change_of(wire::is_removed(message) ? "removed" : "stored",
                   std::string(names.entry_key(message.subject)));
}

std::optional<Change> status_change(const wire::Names& names, const Message& message) {
  const std::string_view key = names.status_key(message.subject);
  // Book-keeping, no news to anyone.
  if (key.starts_with("observer.cursor.") || key == kHistoryKey) return std::nullopt;
  return change_of("status", std::string(key));
}

}  // namespace

void watch(const Streams& streams, std::string_view type, const std::stop_token& stop,
           const std::function<void(const Change&)>& visit) {
  if (!type.empty()) check_name(type, "type");
  const wire::Names& names = streams.names;
  Mailbox mailbox;
  std::deque<Sink> sinks;  // before the readers, which must be gone first
  std::vector<std::unique_ptr<transport::Reader>> readers;
  const auto begin = [&](transport::Stream& stream, std::string filter, Meaning meaning) {
    Sink& sink = sinks.emplace_back(mailbox, readers.size(), std::move(meaning));
    readers.push_back(stream.read(
        {.filter = std::move(filter), .after = {}, .only_new = true, .headers_only = false}, sink));
    readers.back()->grant(limits::read_batch);
  };
  begin(*streams.work, names.token_filter(type), token_change);
  begin(*streams.cache, names.entry_filter(type),
        [&names](const Message& message) { return entry_change(names, message); });
  begin(*streams.status, names.status_filter(type),
        [&names](const Message& message) { return status_change(names, message); });
  begin(*streams.reports, names.report_filter(type), report_change);
  while (const std::optional<Mailbox::Letter> letter = mailbox.take(stop)) {
    readers[letter->reader]->grant(1);
    if (letter->change) visit(*letter->change);
  }
}

void watch_parked(const Streams& streams, std::string_view type, const std::stop_token& stop,
                  const std::function<void(const Change&)>& visit) {
  if (!type.empty()) check_name(type, "type");
  const auto messenger = streams.transport->messenger();
  require(messenger != nullptr, code::no_downlink, "this transport passes no messages on");
  Mailbox mailbox;
  const auto hear = [&mailbox](transport::Note note, std::string_view what, std::string key) {
    Change change = change_of(what, std::move(key));
    if (const auto text = note.header(wire::kRevision)) {
      std::from_chars(text->data(), text->data() + text->size(), change.sequence.value);
    }
    change.value = std::move(note.payload);
    change.at = internal::SystemClock::now();
    mailbox.put({0, std::move(change)}, limits::read_batch);
  };
  // What stands behind the namespace and the two words of the event.
  const auto rest_of = [](const transport::Note& note, std::string_view words) {
    const std::size_t at = note.subject.find(words);
    return at == std::string::npos ? std::string() : note.subject.substr(at + words.size());
  };
  std::vector<std::unique_ptr<transport::Subscription>> subscriptions;  // end before the mailbox
  subscriptions.push_back(messenger->subscribe(streams.names.parked_filter(type), "",
                                               [hear, rest_of](transport::Note note) {
                                                 std::string key = rest_of(note, ".event.parked.");
                                                 hear(std::move(note), "parked", std::move(key));
                                               }));
  if (type.empty()) {
    subscriptions.push_back(messenger->subscribe(
        streams.names.refused_event_subject("*"), "", [hear, rest_of](transport::Note note) {
          std::string key = rest_of(note, ".event.refused.");
          hear(std::move(note), "refused", std::move(key));
        }));
  }
  while (const std::optional<Mailbox::Letter> letter = mailbox.take(stop)) visit(*letter->change);
}

}  // namespace dmm::internal
