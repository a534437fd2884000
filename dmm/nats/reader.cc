#include "dmm/nats/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "dmm/limits.h"
#include "dmm/nats/answer.h"
#include "dmm/transport/loss_doubt.h"

namespace dmm::nats {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::Message;

constexpr milliseconds kProbeInterval(50);
constexpr milliseconds kProbeIntervalMax(2'000);
constexpr int kProbeShare = 20;  ///< so many times as long as the answer took
constexpr int kLagsMax = 2;
constexpr int kUnansweredMax = 3;
constexpr milliseconds kDoubtInterval(1'000);  ///< between looks while a loss is doubted

/// The state of a reader. Kept alive by the callbacks that are under way; they do nothing once
/// `sink` is null. Everything is guarded by `mutex`, the calls to the sink included, so that none
/// can come after the reader was destroyed.
///
/// A consumer lives for one "generation". Whatever looks wrong (a gap, silence, a reconnect, an
/// unknown answer) ends the generation: a new consumer begins behind the last message given.
class State : public std::enable_shared_from_this<State> {
 public:
  State(ReaderSource source, transport::ReadOptions options, transport::ReaderSink& sink)
      : source_(std::move(source)),
        options_(std::move(options)),
        sink_(&sink),
        created_(options_.created),
        cursor_(options_.after),
        find_end_(options_.only_new) {}

  void start() {
    const auto self = shared_from_this();
    inbox_.emplace(*source_.connection, [weak = weak_from_this()](Incoming message) {
      if (const auto state = weak.lock()) state->on_incoming(std::move(message));
    });
    reconnect_listener_ = source_.connection->on_reconnect([weak = weak_from_this()] {
      if (const auto state = weak.lock()) state->reconnected();
    });
    restart({});
    tick();
  }

  void stop() {
    std::string consumer;
    {
      const std::lock_guard lock(mutex_);
      sink_ = nullptr;
      consumer.swap(consumer_);
    }
    // Nothing touches these once the sink is gone; closing the inbox waits for its handler.
    reconnect_listener_.reset();
    inbox_.reset();
    remove_consumer(consumer);
  }

  void grant(std::size_t count) {
    const std::lock_guard lock(mutex_);
    wanted_ += count;
    pull();
  }

 private:
  /// A server that was away may have come back with less.
  void reconnected() {
    {
      const std::lock_guard lock(mutex_);
      check_cursor_ = true;
    }
    restart("the connection was made again");
  }

  /// Ends the generation and begins another one.
  void restart(std::string_view why) {
    std::string old;
    {
      const std::lock_guard lock(mutex_);
      if (sink_ == nullptr) return;
      old.swap(consumer_);
      restart_locked(why);
    }
    remove_consumer(old);
  }

  void restart_locked(std::string_view why) {
    if (!why.empty()) {
      source_.log.debug("reading begins anew", {{"stream", source_.stream}, {"why", why}});
    }
    end_consumer();
    lagging_ = 0;
    looked_at_ = Sequence{};
    last_heard_ = steady_clock::now();
    look();
  }

  void end_consumer() {
    ++generation_;
    consumer_.clear();
    outstanding_ = 0;
    pulls_.clear();
  }

  /// Asks for the state of the stream, before a consumer is made and from time to time. What was
  /// read by now has to be in the stream; messages that come before the answer may be newer than
  /// it.
  void look() {
    source_.connection->request(
        Channel::bulk, "$JS.API.STREAM.INFO." + source_.stream, {}, "", limits::request_timeout,
        [self = shared_from_this(), generation = generation_, read = cursor_](
            const Result<Incoming>& answer) { self->on_stream_info(generation, read, answer); });
  }

  void on_stream_info(std::uint64_t generation, Sequence read, const Result<Incoming>& answer) {
    const std::lock_guard lock(mutex_);
    if (sink_ == nullptr || generation != generation_) return;
    const auto info = noted(parse_stream_info(answer, "asking for the state of " + source_.stream));
    if (!info.ok()) {
      if (&info.error().code() == &code::stream_missing) {
        if (!believed()) return;
        // Losing the stream is losing its history, whoever creates it again.
        if (!created_.empty()) lose_history("the stream is gone");
        if (source_.recreate) source_.recreate();
      }
      if (consumer_.empty()) retry_later();
      return;
    }
    const std::string& created = info.value().created;
    const Sequence last = info.value().last;
    if (!created_.empty() && created != created_) {
      lose_history("the stream was created again");
    } else if (last < read) {
      if (!believed()) return;
      lose_history(fmt::format("the stream ends at {}, but {} was read", last.value, read.value));
    }
    doubt_.clear();
    created_ = created;
    // Under a steady stream there is always a message behind the last one: what was there when the
    // consumer is made is enough.
    if (consumer_.empty()) end_ = last;
    if (find_end_) {
      cursor_ = last;
      find_end_ = false;
    }
    if (!consumer_.empty()) return look_for_lag(last);
    if (std::exchange(check_cursor_, false) && cursor_ && given_at_) return check_cursor();
    create_consumer();
  }

  /// Whether an answer that tells of a loss is to be believed. If not, reading stops, so that the
  /// cursor stays what was read, until another answer tells more.
  bool believed() {
    if (doubt_.believed(source_.replicated, steady_clock::now())) return true;
    remove_consumer(consumer_);
    end_consumer();
    check_cursor_ = true;  // once all seems to be there again, that may be something else
    look_in(kDoubtInterval);
    return false;
  }

  /// A stream that lost its end may have grown past the cursor since. Then what lies there is
  /// another message. If nothing lies there any more, nobody can tell.
  void check_cursor() {
    source_.connection->request(
        Channel::bulk, "$JS.API.STREAM.MSG.GET." + source_.stream, {},
        nlohmann::json{{"seq", cursor_.value}}.dump(), limits::request_timeout,
        [self = shared_from_this(), generation = generation_](const Result<Incoming>& answer) {
          const std::lock_guard lock(self->mutex_);
          if (self->sink_ == nullptr || generation != self->generation_) return;
          const auto found = self->noted(parse_stored(answer, "looking where reading stands"));
          if (found.ok() && found.value() && found.value()->stored_at != *self->given_at_) {
            self->lose_history(fmt::format("message {} is another one than the one that was read",
                                           self->cursor_.value));
          }
          self->create_consumer();
        });
  }

  /// Asked for messages, and none came between two looks, though the stream has some: the consumer
  /// is asked whether they are for us. One that owes some for too long is given up.
  void look_for_lag(Sequence last) {
    const bool silent = outstanding_ > 0 && last > cursor_ && cursor_ == looked_at_;
    looked_at_ = cursor_;
    if (!silent) {
      lagging_ = 0;
      return;
    }
    source_.connection->request(
        Channel::bulk, fmt::format("$JS.API.CONSUMER.INFO.{}.{}", source_.stream, consumer_), {},
        "", limits::request_timeout,
        [self = shared_from_this(), generation = generation_,
         cursor = cursor_](const Result<Incoming>& answer) {
          const std::lock_guard lock(self->mutex_);
          if (self->sink_ == nullptr || generation != self->generation_) return;
          if (self->cursor_ != cursor) return;
          bool owes = true;
          int most = kLagsMax;
          if (!answer.ok()) {
            most = kUnansweredMax;  // nobody says that it owes some, and the server may be slow
          } else {
            const auto info = self->noted(parse_consumer_info(answer, "asking for a consumer"));
            if (!info.ok()) {
              if (&info.error().code() == &code::bad_answer) return;
              return self->restart_locked("the consumer is gone");
            }
            owes =
                info.value().pending > 0 || info.value().delivered + 1 != self->next_in_consumer_;
          }
          self->lagging_ = owes ? self->lagging_ + 1 : 0;
          if (self->lagging_ < most) return;
          self->remove_consumer(self->consumer_);
          self->restart_locked("the consumer gives nothing");
        });
  }

  void lose_history(std::string reason) {
    cursor_ = Sequence{};
    given_at_.reset();
    created_.clear();
    caught_up_ = false;
    complete_ = false;
    if (!consumer_.empty()) end_consumer();
    sink_->on_history_lost(std::move(reason));
  }

  void create_consumer() {
    using nanoseconds = std::chrono::nanoseconds;
    const nlohmann::json request{
        {"stream_name", source_.stream},
        {"config",
         {{"deliver_policy", "by_start_sequence"},
          {"opt_start_seq", cursor_.value + 1},
          {"ack_policy", "none"},
          {"replay_policy", "instant"},
          {"filter_subject", options_.filter},
          {"headers_only", options_.headers_only},
          {"mem_storage", true},
          {"num_replicas", 1},
          {"inactive_threshold", nanoseconds(limits::consumer_inactive_threshold).count()}}}};
    source_.connection->request(
        Channel::bulk, "$JS.API.CONSUMER.CREATE." + source_.stream, {}, request.dump(),
        limits::request_timeout * 2,
        [self = shared_from_this(), generation = generation_](const Result<Incoming>& answer) {
          self->on_consumer(generation, answer);
        });
  }

  void on_consumer(std::uint64_t generation, const Result<Incoming>& answer) {
    const std::lock_guard lock(mutex_);
    const auto info = parse_consumer_info(answer, "creating a consumer");
    if (!info.ok()) {
      if (sink_ == nullptr || generation != generation_) return;
      source_.log.warn("a consumer could not be created",
                       {{"stream", source_.stream}, {"error", info.error().message()}});
      return retry_later();
    }
    const std::string& name = info.value().name;
    if (sink_ == nullptr || generation != generation_) return remove_consumer(name);
    consumer_ = name;
    inbox_->follow(source_.stream + '.' + name);
    next_in_consumer_ = 1;
    retry_delay_ = limits::retry_delay_first;
    last_heard_ = steady_clock::now();
    if (info.value().pending == 0) complete();
    pull();
    if (!complete_) probe_later();
  }

  /// The last message that was pending may be deleted before it is delivered, and then none comes
  /// that says "nothing behind me". So until that was heard, silence leads to a question; but for
  /// that of who was asked for nothing, because the answer costs the server a look at every
  /// subject.
  void probe_later() {
    source_.connection->call_later(
        probe_delay_,
        [self = shared_from_this(), generation = generation_, seen = next_in_consumer_] {
          const std::lock_guard lock(self->mutex_);
          if (self->sink_ == nullptr || generation != self->generation_ || self->complete_) return;
          if (seen == self->next_in_consumer_ && self->outstanding_ > 0) return self->probe();
          self->probe_later();
        });
  }

  void probe() {
    source_.connection->request(
        Channel::bulk, fmt::format("$JS.API.CONSUMER.INFO.{}.{}", source_.stream, consumer_), {},
        "", limits::request_timeout,
        [self = shared_from_this(), generation = generation_,
         asked_at = steady_clock::now()](const Result<Incoming>& answer) {
          const std::lock_guard lock(self->mutex_);
          if (self->sink_ == nullptr || generation != self->generation_ || self->complete_) return;
          const auto took =
              std::chrono::duration_cast<milliseconds>(steady_clock::now() - asked_at);
          self->probe_delay_ = std::clamp(took * kProbeShare, kProbeInterval, kProbeIntervalMax);
          const auto info = self->noted(parse_consumer_info(answer, "asking for a consumer"));
          if (info.ok() && info.value().pending == 0 &&
              info.value().delivered + 1 == self->next_in_consumer_) {
            return self->complete();
          }
          self->probe_later();
        });
  }

  /// Looks again then, unless the generation is over.
  void look_in(milliseconds delay) {
    source_.connection->call_later(delay, [self = shared_from_this(), generation = generation_] {
      const std::lock_guard lock(self->mutex_);
      if (self->sink_ == nullptr) return;
      if (generation == self->generation_) self->look();
    });
  }

  void retry_later() {
    look_in(retry_delay_);
    retry_delay_ = std::min<milliseconds>(retry_delay_ * 2, limits::retry_delay_max);
  }

  void catch_up() {
    if (caught_up_) return;
    caught_up_ = true;
    sink_->on_caught_up();
  }

  void complete() {
    catch_up();
    if (complete_) return;
    complete_ = true;
    sink_->on_complete();
  }

  /// Asks for as many messages as may be given, half a batch or more at a time.
  void pull() {
    if (sink_ == nullptr || consumer_.empty()) return;
    const std::size_t target = std::min(wanted_, limits::read_batch);
    if (outstanding_ >= target || (outstanding_ > 0 && outstanding_ > target / 2)) return;
    const std::size_t batch = target - outstanding_;
    const std::uint64_t id = ++next_pull_;
    using nanoseconds = std::chrono::nanoseconds;
    const std::string request = fmt::format(R"({{"batch":{},"expires":{},"idle_heartbeat":{}}})",
                                            batch, nanoseconds(limits::pull_expiry).count(),
                                            nanoseconds(limits::pull_heartbeat).count());
    try {
      source_.connection->send(
          Channel::bulk, fmt::format("$JS.API.CONSUMER.MSG.NEXT.{}.{}", source_.stream, consumer_),
          fmt::format("{}.{}.{}", inbox_->prefix(), generation_, id), request);
    } catch (const Error&) {
      return;  // not connected: the reconnect begins a new generation
    }
    pulls_.emplace(id, batch);
    outstanding_ += batch;
  }

  void on_incoming(Incoming message) {
    const std::lock_guard lock(mutex_);
    if (sink_ == nullptr) return;
    if (!message.delivery) return on_status(message);
    const Delivery& delivery = *message.delivery;
    if (delivery.consumer != source_.stream + '.' + consumer_) return;  // of an ended generation
    last_heard_ = steady_clock::now();
    if (delivery.consumer_sequence != next_in_consumer_) {
      return restart_locked("messages were lost on the way");
    }
    ++next_in_consumer_;
    cursor_ = delivery.stream_sequence;
    given_at_ = delivery.stored_at;
    if (wanted_ > 0) --wanted_;
    if (outstanding_ > 0) --outstanding_;
    // The server serves its pulls in their order.
    if (!pulls_.empty() && --pulls_.begin()->second == 0) pulls_.erase(pulls_.begin());
    const std::uint64_t pending = delivery.pending;
    sink_->on_message(Message{std::move(message.subject), std::move(message.headers),
                              std::move(message.payload), delivery.stream_sequence,
                              delivery.stored_at});
    if (cursor_ >= end_) catch_up();
    if (pending == 0) complete();
    pull();
  }

  /// An answer without a message ends the pull it belongs to, but for heartbeats.
  void on_status(const Incoming& message) {
    // <prefix>.<generation>.<pull>
    std::uint64_t generation = 0;
    std::uint64_t id = 0;
    const char* end = message.subject.data() + message.subject.size();
    const char* at = message.subject.data() + inbox_->prefix().size() + 1;
    at = std::from_chars(at, end, generation).ptr;
    if (at < end) std::from_chars(at + 1, end, id);
    if (generation != generation_) return;
    last_heard_ = steady_clock::now();
    if (message.status == 100) {
      const auto given = transport::find_header(message.headers, "Nats-Last-Consumer");
      if (given && *given != std::to_string(next_in_consumer_ - 1)) {
        return restart_locked("the last messages were lost on the way");
      }
      // The server sends heartbeats only when it has had nothing to give for a while.
      return complete();
    }
    if (const auto found = pulls_.find(id); found != pulls_.end()) {
      outstanding_ -= std::min(outstanding_, found->second);
      pulls_.erase(found);
    }
    if (message.status == 408 || message.status == 404) return pull();
    restart_locked(fmt::format("the server said {} {}", message.status, message.description));
  }

  /// Once a second: is the consumer silent though it owes us heartbeats, has the stream changed?
  void tick() {
    source_.connection->call_later(std::chrono::seconds(1), [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      {
        const std::lock_guard lock(self->mutex_);
        if (self->sink_ == nullptr) return;
        const auto now = steady_clock::now();
        if (!self->consumer_.empty()) {
          if (self->outstanding_ > 0 && now - self->last_heard_ > limits::pull_heartbeat * 2.5) {
            self->restart_locked("the consumer has gone silent");
          } else if (now - self->last_look_ > limits::stream_check_interval) {
            self->last_look_ = now;
            self->look();
          }
        }
      }
      self->tick();
    });
  }

  /// `result`, after an answer without sense was noted.
  template <class T>
  Result<T> noted(Result<T> result) const {
    if (!result.ok()) source_.connection->note(result.error());
    return result;
  }

  void remove_consumer(const std::string& consumer) {
    if (consumer.empty()) return;
    source_.connection->request(
        Channel::bulk, fmt::format("$JS.API.CONSUMER.DELETE.{}.{}", source_.stream, consumer), {},
        "", limits::request_timeout, [](const Result<Incoming>&) {});
  }

  const ReaderSource source_;
  const transport::ReadOptions options_;

  /// Recursive: on a closed connection a request is answered before it returns.
  std::recursive_mutex mutex_;
  transport::ReaderSink* sink_;
  std::optional<Connection::Inbox> inbox_;
  std::shared_ptr<void> reconnect_listener_;
  std::uint64_t generation_ = 0;
  std::string consumer_;  ///< empty while there is none
  std::string created_;   ///< of the stream; empty until it was seen
  transport::LossDoubt doubt_;
  Sequence cursor_;
  Sequence end_;  ///< of the stream when the consumer was asked for
  bool find_end_;
  bool caught_up_ = false;
  bool complete_ = false;
  std::optional<std::chrono::system_clock::time_point> given_at_;  ///< when cursor_ was stored
  bool check_cursor_ = false;  ///< before the next consumer is made
  Sequence looked_at_;         ///< the cursor at the last look
  int lagging_ = 0;            ///< looks in a row at which messages were owed and none came
  std::uint64_t next_in_consumer_ = 1;
  std::size_t wanted_ = 0;       ///< granted, not yet given
  std::size_t outstanding_ = 0;  ///< asked of the server, not yet arrived
  std::uint64_t next_pull_ = 0;
  std::map<std::uint64_t, std::size_t> pulls_;  ///< id -> messages still owed
  steady_clock::time_point last_heard_;
  steady_clock::time_point last_look_ = steady_clock::now();
  milliseconds retry_delay_ = limits::retry_delay_first;
  milliseconds probe_delay_ = kProbeInterval;
};

class PullReader final : public transport::Reader {
 public:
  explicit PullReader(std::shared_ptr<State> state) : state_(std::move(state)) { state_->start(); }
  ~PullReader() override { state_->stop(); }
  void grant(std::size_t count) override { state_->grant(count); }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<transport::Reader> make_reader(ReaderSource source, transport::ReadOptions options,
                                               transport::ReaderSink& sink) {
  return std::make_unique<PullReader>(
      std::make_shared<State>(std::move(source), std::move(options), sink));
}

}  // namespace dmm::nats
