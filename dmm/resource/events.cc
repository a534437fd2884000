#include "dmm/resource/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "dmm/internal/streams.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/check_internal.h"
#include "dmm/resource/event_text.h"
#include "dmm/resource/relay.h"

namespace dmm::resource {

namespace {

/// Hands messages over from the transport's thread to the one that follows.
class Queue final : public transport::ReaderSink {
 public:
  void on_message(transport::Message message) noexcept override {
    const std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
    changed_.notify_one();
  }
  void on_caught_up() noexcept override {
    const std::lock_guard lock(mutex_);
    caught_up_ = true;
    changed_.notify_one();
  }
  // The stream was lost, and with it the events in it: what comes now comes from its first message.
  void on_history_lost(std::string) noexcept override {}

  /// The next message; nothing at a stop, or at the end of what is there.
  std::optional<transport::Message> next(const std::stop_token& stop, bool until_caught_up) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, stop,
                  [&] { return !messages_.empty() || (until_caught_up && caught_up_); });
    if (messages_.empty() || stop.stop_requested()) return std::nullopt;
    std::optional<transport::Message> message(std::move(messages_.front()));
    messages_.pop_front();
    return message;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<transport::Message> messages_;
  bool caught_up_ = false;
};

void check(const EventFilter& filter) {
  if (filter.kind) check_kind(*filter.kind);
  if (filter.ns) internal::check_namespace(*filter.ns);
  if (!filter.name) return;
  constexpr std::string_view kNames[] = {"synced",  "failing", "degraded", "recovered",
                                         "deleted", "expired", "skipped"};
  require(std::find(std::begin(kNames), std::end(kNames), *filter.name) != std::end(kNames),
          code::bad_option,
          fmt::format("\"{}\" is none of the events {}", printable(*filter.name, 50),
                      fmt::join(kNames, ", ")));
}

}  // namespace

struct Events::State_ {
  std::string ns;
  std::shared_ptr<transport::Stream> stream;

  /// Calls `visit` until it returns false, `stop`, or the end of what is there.
  void visit(const EventFilter& filter, Sequence after, const std::stop_token& stop,
             bool until_caught_up, const std::function<bool(const Event&)>& visit) {
    check(filter);
    Queue queue;
    transport::ReadOptions options;
    options.filter = internal::event_subject(ns, filter.kind.value_or(""), filter.name.value_or(""),
                                             filter.ns.value_or(""), "");
    options.after = after;
    const auto reader = stream->read(options, queue);
    reader->grant(limits::read_batch);
    while (const auto message = queue.next(stop, until_caught_up)) {
      reader->grant(1);
      const std::optional<Event> event = internal::read_event(*message);
      if (event && !visit(*event)) return;
    }
  }
};

Events::Events(Bucket& bucket) {
  const auto& streams = dmm::internal::streams_of(bucket);
  state_ = std::unique_ptr<State_>(new State_{streams.names.ns(), internal::open_events(streams)});
}
Events::Events(Events&&) noexcept = default;
Events& Events::operator=(Events&&) noexcept = default;
Events::~Events() = default;

void Events::follow(const EventFilter& filter, Sequence after, std::stop_token stop,
                    const std::function<void(const Event&)>& visit) {
  state_->visit(filter, after, stop, false, [&](const Event& event) {
    visit(event);
    return true;
  });
}

std::vector<Event> Events::read(const EventFilter& filter, Sequence after, std::size_t limit) {
  std::vector<Event> events;
  if (limit == 0) return events;
  state_->visit(filter, after, {}, true, [&](const Event& event) {
    events.push_back(event);
    return events.size() < limit;
  });
  return events;
}

Sequence Events::newest() {
  return state_->stream->state().last;
}

}  // namespace dmm::resource
