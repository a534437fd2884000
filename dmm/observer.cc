#include "dmm/observer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "dmm/internal/active_span.h"
#include "dmm/internal/history.h"
#include "dmm/internal/observing.h"
#include "dmm/internal/parked_event.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/worker/backoff.h"
#include "dmm/worker/lease.h"
#include "dmm/worker/mailbox.h"
#include "dmm/worker/report_toll.h"
#include "dmm/worker/run_pool.h"

namespace dmm::internal {

namespace {

using std::chrono::milliseconds;
using worker::Lease;
using worker::Mailbox;
using worker::RunPool;
using worker::Tenure;

std::int64_t nanoseconds_of(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Remembers what the handler read, and notifies only if that is still so, and while the lease is
/// held under which the report was read: behind it another owner may have told what is newer.
class HandlerContext final : public ObserveContext {
 public:
  HandlerContext(Notifier& notifier, const Lease& lease, Epoch epoch, const std::string& kind,
                 const std::string& device, std::stop_token stop, const Logger& log)
      : notifier_(notifier),
        lease_(lease),
        epoch_(epoch),
        kind_(kind),
        device_(device),
        stop_(std::move(stop)),
        log_(log.with({{"kind", kind}, {"device", device}})) {}

  nlohmann::json matter(const Identity& identity) override {
    Sequence token;
    nlohmann::json value = notifier_.matter(identity, &token);
    read_[identity] = token;
    return value;
  }
  void notify(const Identity& identity, const nlohmann::json& cache) override {
    const auto read = read_.find(identity);
    const auto left = std::chrono::duration_cast<milliseconds>(lease_.left());
    if (left.count() <= 0 || lease_.epoch() != epoch_) {
      throw Error(code::lease_lost,
                  fmt::format("{} is not notified: another worker may observe {} by now",
                              printable(key_of(identity), 300), kind_));
    }
    const Sequence stored = notifier_.notify(
        identity, cache, read == read_.end() ? std::nullopt : std::optional<Sequence>(read->second),
        std::min<milliseconds>(limits::publish_deadline, left));
    if (read != read_.end()) read->second = stored;
  }
  void poke(const Identity& identity) override { notifier_.poke(identity); }
  const std::string& type_name(std::type_index type) const override {
    return notifier_.type_name(type);
  }

  const std::string& kind() const noexcept override { return kind_; }
  const std::string& device() const noexcept override { return device_; }
  std::stop_token stop_token() const noexcept override { return stop_; }
  const Logger& log() const noexcept override { return log_; }
  std::string traceparent() const override { return traceparent_; }

 private:
  Notifier& notifier_;
  const Lease& lease_;
  const Epoch epoch_;
  const std::string& kind_;
  const std::string& device_;
  const std::stop_token stop_;
  const std::string traceparent_ = current_trace();
  const Logger log_;
  std::map<Identity, Sequence> read_;  ///< the token's sequence when it was read
};

/// Whether a report is newer than the last one of its device. A report may carry "seq", which grows
/// with each report, and "boot", which changes when "seq" begins anew.
class Clocks {
 public:
  /// False: at or below the last `seq` of the same boot.
  bool advance(const std::string& device, const nlohmann::json& report) {
    if (!report.is_object()) return true;
    const auto seq = report.find("seq");
    if (seq == report.end() || !seq->is_number_integer()) return true;
    const std::int64_t number = seq->get<std::int64_t>();
    const auto boot = report.find("boot");
    const std::string boot_id = boot == report.end() ? "" : dump_json(*boot);
    const auto found = last_.find(device);
    if (found == last_.end()) {
      if (last_.size() >= limits::devices_tracked_max) last_.erase(last_.begin());
      last_.emplace(device, Last{boot_id, number});
      return true;
    }
    if (found->second.boot == boot_id && number <= found->second.seq) return false;
    found->second = Last{boot_id, number};
    return true;
  }
  void clear() { last_.clear(); }

 private:
  struct Last {
    std::string boot;
    std::int64_t seq;
  };
  std::unordered_map<std::string, Last> last_;
};

/// Reads the reports of one kind: an owner thread (the caller of work()) that keeps the order of
/// each device and the cursor, and a pool for the handlers.
class ReportObserver final : public Observer, private transport::ReaderSink {
 public:
  ReportObserver(const Streams& streams, Notifier& notifier, std::string kind,
                 ReportHandler handler, ObserveOptions options)
      : streams_(streams),
        notifier_(notifier),
        kind_(std::move(kind)),
        handler_(std::move(handler)),
        options_(options),
        random_(random_seed()) {
    require(options_.concurrency >= 1 && options_.concurrency <= 1'024, code::bad_option,
            "concurrency is not from 1 to 1024");
  }

  const std::string& kind() const noexcept override { return kind_; }

  ObserveStats stats() const override {
    // In this order: what is through was read before.
    const std::uint64_t through = through_;
    const std::uint64_t given = given_;
    const std::lock_guard lock(stats_mutex_);
    ObserveStats stats = stats_;
    stats.waiting = given - through;
    stats.stands_by = stands_by_;
    return stats;
  }

  void work(std::stop_token stop) override {
    const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
    handlers_stop_ = std::stop_source();
    pool_ = std::make_unique<RunPool>(options_.concurrency, streams_.log.with({{"kind", kind_}}));
    lease_ = std::make_unique<Lease>(streams_, fmt::format("observe.{}", kind_),
                                     [this] { mailbox_.wake(); });
    while (!stop.stop_requested()) {
      const std::optional<Tenure> tenure = lease_->acquire(stop, &stands_by_);
      if (!tenure) break;
      if (!tenure->last_words.run.empty()) heard_ = tenure->last_words;
      try {
        if (!tenure->continued || !reader_) begin_tenure();
      } catch (const Error& error) {
        if (error.kind() != Kind::retry && error.kind() != Kind::not_found) throw;
        streams_.log.warn("observing could not begin", {{"kind", kind_}, {"error", error.what()}});
        reader_.reset();
        mailbox_.run_until(Clock::now() + limits::retry_delay_max);
        continue;
      }
      set_holds(true);
      while (!stop.stop_requested() && lease_->held()) {
        turn(true);
        if (news_lost()) begin_anew("news or caches were lost");
      }
      set_holds(false);
    }
    finish();
  }

 private:
  using Clock = internal::SteadyClock;

  /// The reports of one device that were read and not yet handled: the newest counts.
  struct Device {
    std::string name;
    std::string encoded;
    std::optional<transport::Message> waiting;
    bool running = false;
    int failures = 0;
    Sequence handling;
  };
  using DevicePtr = std::shared_ptr<Device>;

  // ---- the reader's thread ----
  void on_message(transport::Message message) noexcept override {
    ++given_;
    mailbox_.post([this, history = history_.load(), message = std::move(message)] {
      history == history_ ? take(message) : pass();
    });
  }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string reason) noexcept override {
    ++history_;  // what was read before and not yet taken is void
    mailbox_.post([this, reason = std::move(reason)] {
      streams_.log.error("the report stream lost its history: reading it from the start",
                         {{"kind", kind_}, {"reason", reason}});
      const std::uint64_t losses = cursor_.losses;
      forget();
      cursor_.losses = losses;
      if (reader_) reader_->grant(2 * limits::read_batch);
      try {
        cursor_.created = streams_.reports->state().created;
      } catch (const Error& error) {
        streams_.log.warn("the state of the report stream is unknown", {{"error", error.what()}});
      }
    });
  }

  // ---- the owner's thread ----
  void begin_tenure() {
    reader_.reset();
    ++history_;
    forget();
    const std::string created = streams_.reports->state().created;
    const auto stored =
        transport::last(*streams_.status, streams_.names.status_subject(cursor_key(kind_)));
    if (stored) {
      cursor_ = parse_status<Cursor>(*stored).value_or(Cursor{});
    } else if (streams_.history) {
      cursor_.losses = streams_.history->losses().value_or(0);  // nothing was told before
    }
    toll_ = worker::ReportToll(cursor_.ends);
    if (cursor_.created != created) {
      cursor_ = Cursor{created, 0, cursor_.losses, 0, std::move(cursor_.ends)};
    }
    if (heard_) note_end(*heard_);
    heard_.reset();
    stored_ = cursor_;
    highest_ = Sequence{cursor_.sequence};
    refusals_.clear();
    transport::scan(*streams_.status, streams_.names.status_subject("refused.report.>"),
                    [this](const transport::Message& message) {
                      refusals_[std::string(streams_.names.status_key(message.subject))] =
                          message.sequence;
                    });
    // The report at the cursor tells whether the stream is still the one that was read.
    read_from(cursor_.sequence - (cursor_.sequence > 0 && cursor_.stored_at > 0 ? 1 : 0));
  }

  /// The owner before said in which run it ended. What is counted is stored before anything is
  /// handled, or what ends this worker at once would never be found out.
  void note_end(const worker::LastWords& words) {
    const std::string ours = report_name("");
    if (!words.run.starts_with(ours)) return;
    const std::string device = words.run.substr(ours.size());
    toll_.note_end(device, internal::SystemClock::now());
    streams_.log.warn("the handler of a report ended its worker",
                      {{"kind", kind_},
                       {"device", printable(device, 300)},
                       {"signal", words.signal},
                       {"ends", toll_.count(device)}});
    cursor_.ends = toll_.ends();
    try {
      transport::publish(*streams_.status,
                         {.subject = streams_.names.status_subject(cursor_key(kind_)),
                          .payload = dump_json(nlohmann::json(cursor_))},
                         limits::request_timeout);
    } catch (const Error& error) {
      if (error.kind() != Kind::in_doubt) throw;
    }
  }

  /// How the handling of a device's report is called in the last words of its process.
  std::string report_name(std::string_view device) const {
    return fmt::format("{} report {} {}", streams_.names.ns(), kind_, device);
  }

  /// True if it is what was handled last. A stream that lost its end and went on from there has
  /// another one in its place: what is behind the cursor then was never handled.
  bool was_handled(const transport::Message& message) {
    const std::int64_t expected = std::exchange(cursor_.stored_at, 0);
    if (expected == 0 || message.sequence.value != cursor_.sequence) return false;
    if (nanoseconds_of(message.stored_at) == expected) return true;
    begin_anew(fmt::format("report {} is another one than before", message.sequence.value));
    return true;
  }

  /// What handlers notified before may have been lost since.
  bool news_lost() const {
    const auto losses = streams_.history ? streams_.history->losses() : std::nullopt;
    return losses && *losses != cursor_.losses;
  }

  /// Reads from the start, so that all is notified again.
  void begin_anew(const std::string& why) {
    streams_.log.warn("all reports are handled again", {{"kind", kind_}, {"reason", why}});
    reader_.reset();
    ++history_;
    const std::string created = cursor_.created;
    const auto losses = streams_.history ? streams_.history->losses() : std::nullopt;
    const std::uint64_t known = losses.value_or(cursor_.losses);
    forget();
    cursor_ = Cursor{created, 0, known};
    stored_ = cursor_;
    read_from(0);
  }

  void read_from(std::uint64_t sequence) {
    reader_ = streams_.reports->read(
        {.filter = streams_.names.report_filter(kind_), .after = Sequence{sequence}}, *this);
    reader_->grant(2 * limits::read_batch);
  }

  /// Forgets all that was read. Only the next report of a device waits for the handler that has one
  /// before it.
  void forget() {
    ++tenure_;
    for (const auto& [name, device] : devices_) {
      if (device->running) still_handled_.insert(name);
    }
    devices_.clear();
    ready_.clear();
    timers_.clear();
    through_ += open_.size();
    open_.clear();
    clocks_.clear();
    highest_ = Sequence{};
    cursor_ = Cursor{};
    consumed_ = 0;
  }

  void turn(bool may_begin) {
    const auto now = Clock::now();
    while (!timers_.empty() && timers_.begin()->first <= now) {
      ready_.push_back(timers_.begin()->second);
      timers_.erase(timers_.begin());
    }
    while (may_begin && running_ < options_.concurrency && !ready_.empty()) {
      const DevicePtr device = ready_.front();
      ready_.pop_front();
      begin(device);
    }
    if (now - cursor_stored_at_ > limits::cursor_interval || toll_.ends() != stored_.ends) {
      store_cursor();
    }
    auto until = now + limits::cursor_interval;
    if (!timers_.empty()) until = std::min(until, timers_.begin()->first);
    pool_->look_again();
    mailbox_.run_until(until);
  }

  void take(const transport::Message& message) {
    if (was_handled(message)) return grant_one();
    count(&ObserveStats::reports);
    highest_ = message.sequence;
    highest_at_ = message.stored_at;
    const auto parts = wire::split_report(message.subject);
    const std::optional<std::string> name = parts ? decode_id(parts->device) : std::nullopt;
    if (!name) {
      const std::string right =
          parts ? suggest_spelling(parts->device.substr(0, 300)) : std::string("?");
      refuse(message, Error(code::bad_spelling,
                            fmt::format("device \"{}\" is spelled {}",
                                        printable(parts ? parts->device : "", 300), right)));
      return grant_one();
    }
    DevicePtr& slot = devices_[*name];
    if (!slot) {
      slot = std::make_shared<Device>();
      slot->name = *name;
      slot->encoded = parts->device;
    }
    const DevicePtr device = slot;
    if (device->waiting) {
      open_.erase(device->waiting->sequence);  // replaced by a newer report before it was handled
      grant_one();
    }
    // A report that waits for its next attempt makes way, and the newer one is handled at once.
    const bool queued = device->waiting.has_value() && device->failures == 0;
    device->failures = 0;
    device->waiting = message;
    open_.insert(message.sequence);
    if (!queued && !device->running) ready_.push_back(device);
  }

  void begin(const DevicePtr& device) {
    if (!device->waiting || device->running) return;
    // What it is told now would come behind this report.
    if (still_handled_.contains(device->name)) return;
    const auto wall_now = internal::SystemClock::now();
    if (const auto wait = toll_.wait(device->encoded, wall_now); wait.count() > 0) {
      timers_.emplace(Clock::now() + wait, device);
      return;
    }
    const auto message = std::make_shared<transport::Message>(std::move(*device->waiting));
    device->waiting.reset();
    device->handling = message->sequence;
    if (const auto error = newer(*message, "the report")) {
      refuse(*message, *error);
      return handled(device);
    }
    Result<nlohmann::json> report = parse_json(message->payload);
    if (!report.ok()) {
      refuse(*message, report.error());
      return handled(device);
    }
    if (device->failures == 0 && !clocks_.advance(device->name, report.value())) {
      count(&ObserveStats::stale);
      return handled(device);
    }
    if (toll_.refuses(device->encoded, wall_now)) {
      refuse(*message, Error(code::observer_crashed,
                             "one worker after the other ended in reports of this device"));
      return handled(device);
    }
    device->running = true;
    ++running_;
    pool_->submit([this, device, message, tenure = tenure_, epoch = lease_->epoch(),
                   state = std::make_shared<nlohmann::json>(std::move(report).value())] {
      auto error = std::make_shared<std::optional<Error>>(call(*device, epoch, *message, *state));
      mailbox_.post([this, device, message, tenure, error] {
        --running_;
        device->running = false;
        if (tenure == tenure_) {
          toll_.clear(device->encoded);
          return called(device, message, *error);
        }
        still_handled_.erase(device->name);
        const auto next = devices_.find(device->name);
        if (next != devices_.end()) ready_.push_back(next->second);
      });
    });
  }

  /// Calls the handler until what it read was still so when it notified. On the pool.
  std::optional<Error> call(const Device& device, Epoch epoch, const transport::Message& message,
                            const nlohmann::json& report) {
    ActiveSpan span(streams_.spans.get(), trace_of(message), Span::Role::consumer, "observe",
                    kind_);
    if (span.recording()) span.attribute("dmm.device", printable(device.name, 300));
    std::string name;
    std::optional<worker::InRun> in_run;
    if (streams_.life_locks) in_run.emplace(name = report_name(device.encoded));
    std::optional<Error> error = call_until_sound(device, epoch, report);
    if (error) span.fail(error->what());
    return error;
  }

  std::optional<Error> call_until_sound(const Device& device, Epoch epoch,
                                        const nlohmann::json& report) {
    while (true) {
      HandlerContext context(notifier_, *lease_, epoch, kind_, device.name,
                             handlers_stop_.get_token(), streams_.log);
      try {
        handler_(context, report);
        crash_point("handled a report");
        return std::nullopt;
      } catch (const Error& error) {
        if (error.kind() == Kind::conflict && !handlers_stop_.stop_requested()) {
          count(&ObserveStats::repeated);
          continue;
        }
        return error;
      } catch (const std::exception& e) {
        return Error(code::observe_failed, printable(e.what(), limits::error_text_bytes_max));
      } catch (...) {
        return Error(code::observe_failed, "threw something that is no std::exception");
      }
    }
  }

  void called(const DevicePtr& device, const std::shared_ptr<transport::Message>& message,
              const std::optional<Error>& error) {
    if (!error) {
      count_handled(*message);
      clear_refusal(message->subject);
      return handled(device);
    }
    if (&error->code() == &code::wrong_shape) {
      refuse(*message, *error);
      return handled(device);
    }
    count(&ObserveStats::failed);
    streams_.log.warn("an observe handler failed", {{"kind", kind_},
                                                    {"device", device->name},
                                                    {"code", std::string(error->code().id)},
                                                    {"error", error->message()}});
    ++device->failures;
    if (device->waiting) {
      device->failures = 0;
      return handled(device);  // the newer report is handled instead
    }
    device->waiting = std::move(*message);
    timers_.emplace(Clock::now() + worker::backoff(device->failures, limits::backoff_first,
                                                   limits::backoff_max, random_),
                    device);
  }

  /// The present report of the device is through, one way or another.
  void handled(const DevicePtr& device) {
    open_.erase(device->handling);
    device->failures = 0;
    grant_one();
    if (device->waiting) {
      ready_.push_back(device);
    } else {
      devices_.erase(device->name);
    }
  }

  /// A report needs nothing more.
  void pass() { ++through_; }

  void grant_one() {
    pass();
    constexpr std::size_t kGrantAtOnce = 100;
    if (++consumed_ < kGrantAtOnce && !open_.empty()) return;
    if (reader_) reader_->grant(std::exchange(consumed_, 0));
  }

  void refuse(const transport::Message& message, const Error& error) {
    count(&ObserveStats::refused);
    streams_.log.warn("a report was refused", {{"subject", printable(message.subject, 300)},
                                               {"code", std::string(error.code().id)},
                                               {"error", error.message()}});
    const Refusal refusal{
        "report",
        printable(message.subject, 300),
        message.sequence.value,
        std::string(error.code().id),
        error.message(),
        std::chrono::duration_cast<milliseconds>(internal::SystemClock::now().time_since_epoch())
            .count()};
    const std::string key = refusal_key("report", message.subject);
    publish_status(key, nlohmann::json(refusal), [this, key, refusal](Sequence sequence) {
      refusals_[key] = sequence;
      tell_refused(streams_, refusal, sequence);
    });
  }

  /// A sound report ends the refusal of an earlier one.
  void clear_refusal(const std::string& subject) {
    if (refusals_.empty()) return;
    const auto found = refusals_.find(refusal_key("report", subject));
    if (found == refusals_.end()) return;
    ++writing_;
    streams_.status->erase(found->second,
                           [this](const Result<bool>&) { mailbox_.post([this] { --writing_; }); });
    refusals_.erase(found);
  }

  /// Behind this sequence everything was handled.
  std::uint64_t handled_up_to() const {
    return open_.empty() ? highest_.value : open_.begin()->value - 1;
  }

  void store_cursor() {
    cursor_stored_at_ = Clock::now();
    Cursor next{cursor_.created, handled_up_to(), cursor_.losses, 0, toll_.ends()};
    const bool further = next.sequence != stored_.sequence || next.created != stored_.created;
    if (!further && next.ends == stored_.ends) return;
    if (next.created.empty() || !lease_->held()) return;
    if (!further) next.stored_at = stored_.stored_at;
    if (further && next.sequence > 0 && open_.empty()) next.stored_at = nanoseconds_of(highest_at_);
    stored_ = std::move(next);
    crash_point("stores a cursor");
    publish_status(cursor_key(kind_), nlohmann::json(stored_));
  }

  void publish_status(
      const std::string& key, const nlohmann::json& value,
      std::function<void(Sequence)> stored = [](Sequence) {}) {
    ++writing_;
    streams_.status->publish(
        {.subject = streams_.names.status_subject(key), .payload = dump_json(value)},
        limits::publish_deadline,
        [this, stored = std::move(stored)](const Result<Sequence>& result) {
          mailbox_.post([this, stored, ok = result.ok(),
                         sequence = result.ok() ? result.value() : Sequence{}] {
            --writing_;
            if (ok) stored(sequence);
          });
        });
  }

  void finish() {
    const auto grace_ends = Clock::now() + limits::grace;
    while (running_ > 0 && Clock::now() < grace_ends) turn(false);
    handlers_stop_.request_stop();
    pool_->run_here();
    while (running_ > 0) turn(false);
    if (lease_->held()) store_cursor();
    const auto writes_end = Clock::now() + limits::request_timeout;
    while (writing_ > 0 && Clock::now() < writes_end) {
      mailbox_.run_until(Clock::now() + limits::retry_delay_first);
    }
    reader_.reset();
    pool_.reset();
    lease_->release();
    forget();
  }

  void count(std::uint64_t ObserveStats::*counter) {
    const std::lock_guard lock(stats_mutex_);
    ++(stats_.*counter);
  }
  void count_handled(const transport::Message& message) {
    const auto lag = internal::SystemClock::now() - message.stored_at;
    const std::lock_guard lock(stats_mutex_);
    ++stats_.handled;
    stats_.lags.add(lag);
  }
  void set_holds(bool holds) {
    const std::lock_guard lock(stats_mutex_);
    stats_.holds_lease = holds;
  }

  const Streams& streams_;
  Notifier& notifier_;
  const std::string kind_;
  const ReportHandler handler_;
  const ObserveOptions options_;

  Mailbox mailbox_;
  std::unique_ptr<Lease> lease_;
  std::atomic<bool> stands_by_{false};
  std::unique_ptr<transport::Reader> reader_;
  std::atomic<std::uint64_t> history_{0};  ///< counts beginnings of reading anew
  std::atomic<std::uint64_t> given_{0};    ///< reports that came
  std::atomic<std::uint64_t> through_{0};  ///< of them those that need nothing more
  std::uint64_t tenure_ = 0;
  std::stop_source handlers_stop_;

  std::unordered_map<std::string, DevicePtr> devices_;
  std::unordered_set<std::string> still_handled_;  ///< devices whose handlers began before forget()
  std::deque<DevicePtr> ready_;
  std::multimap<Clock::time_point, DevicePtr> timers_;
  std::set<Sequence> open_;                           ///< read and not yet handled
  Sequence highest_;                                  ///< read
  std::chrono::system_clock::time_point highest_at_;  ///< when that was stored
  std::size_t running_ = 0;
  std::size_t writing_ = 0;
  std::size_t consumed_ = 0;
  Clocks clocks_;
  std::unordered_map<std::string, Sequence> refusals_;  ///< stored in the status bucket, by key
  std::optional<worker::LastWords> heard_;              ///< of the owner before, not counted yet
  worker::ReportToll toll_;
  Cursor cursor_;
  Cursor stored_;  ///< as it was written last
  Clock::time_point cursor_stored_at_;
  std::mt19937_64 random_;

  mutable std::mutex stats_mutex_;
  ObserveStats stats_;
  std::unique_ptr<RunPool> pool_;  ///< last: its threads end first
};

}  // namespace

std::unique_ptr<Observer> make_observer(const Streams& streams, Notifier& notifier,
                                        std::string kind, ReportHandler handler,
                                        ObserveOptions options) {
  return std::make_unique<ReportObserver>(streams, notifier, std::move(kind), std::move(handler),
                                          options);
}

}  // namespace dmm::internal
