#include "dmm/worker/run_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "dmm/internal/history.h"
#include "dmm/internal/policy.h"
#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::worker {

using std::chrono::milliseconds;

RunLoop::RunLoop(const internal::Streams& streams, Matters& matters, std::string type,
                 AnyMaterializer materializer, WorkOptions options)
    : streams_(streams),
      matters_(matters),
      type_(std::move(type)),
      materializer_(std::move(materializer)),
      declared_(options),
      options_(options),
      mailbox_([this] { return advance(); }),
      leases_(
          streams, type_, [this] { mailbox_.wake(); }, [this] { cancel_doubted_runs(); }),
      entries_(limits::entries_held_bytes_max),
      statuses_(streams, mailbox_,
                [this](const std::string& key) { return counts_on(lane_of_key(key)); }),
      report_waits_(streams, mailbox_, [this](const std::string& key) { heard_of_device(key); }),
      steering_(streams, mailbox_, type_, [this] { follow_steering(); }),
      resync_(streams, mailbox_, type_,
              [this](const std::string& key) {
                const Lane& lane = lanes_[lane_of_key(key)];
                return lane.ours && !lane.leaving;
              }),
      random_(internal::random_seed()),
      run_slots_(std::make_shared<Slots>(type_)) {
  internal::check(declared_);
}

RunLoop::~RunLoop() = default;

WorkStats RunLoop::stats() const {
  const std::lock_guard lock(published_mutex_);
  return published_;
}

// ---- the reader's thread

void RunLoop::on_message(transport::Message message) noexcept {
  bool first = false;
  {
    const std::lock_guard lock(arrived_mutex_);
    first = arrived_.empty();
    arrived_.push_back(std::move(message));
  }
  if (first) mailbox_.post([this] { take_arrived(); });
}

void RunLoop::on_caught_up() noexcept {
  mailbox_.post([this, reading = reading_.load()] {
    if (reading != reading_) return;
    const std::uint64_t losses = stats_.history_losses;
    take_arrived();
    if (stats_.history_losses != losses) return;  // what was read is void, and is read again
    std::array<bool, limits::lanes> read{};
    for (std::uint32_t number = 0; number < limits::lanes; ++number) {
      Lane& lane = lanes_[number];
      read[number] = lane.ours && !lane.leaving && !std::exchange(lane.caught_up, true);
      if (!read[number]) continue;
      leases_.note_heard(number);
      lane.last_words = LastWords();
    }
    // A status whose token is gone was left behind by a crash between two writes, or its token was
    // lost; then what is known of the identity is the entry, with which it runs again.
    const bool lost = std::exchange(tokens_lost_, false);
    statuses_.clear_unless([&](const std::string& key) {
      const auto item = items_.find(key);
      const bool known =
          item != items_.end() && (!item->second->abandoned || item->second->token.has_value());
      if (!read[lane_of_key(key)] || known) return true;
      if (lost || statuses_.find(key)->created != created_) resync_.tell(key);
      return false;
    });
  });
}

void RunLoop::on_history_lost(std::string reason) noexcept {
  {
    // What was read before belongs to what is lost; what comes now must not be mixed with it.
    const std::lock_guard lock(arrived_mutex_);
    dropped_ += arrived_.size();
    arrived_.clear();
    history_loss_ = std::move(reason);
  }
  mailbox_.post([this] { take_arrived(); });
}

// ---- the owner's loop

void RunLoop::work(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  stopping_ = false;
  pool_ = std::make_unique<RunPool>(options_.concurrency, streams_.log.with({{"type", type_}}));
  steering_.start();
  leases_.start();
  while (!stop.stop_requested()) {
    leases_.check();
    turn(true);
  }
  finish_work();
}

/// Forgets everything but the runs that are under way, whose results will be dropped.
void RunLoop::reset() {
  ++tenure_;
  entries_.clear();
  report_waits_.forget_all();
  held_.clear();
  ready_.clear();
  ready_bytes_ = 0;
  suspended_.clear();
  for (const auto& [sequence, lane] : to_erase_) --unerased_[lane];
  to_erase_.clear();
  for (const auto& [sequence, lane] : erase_again_) --unerased_[lane];
  erase_again_.clear();
  std::erase_if(items_, [&](const auto& pair) { return abandon(pair.second); });
  for (Lane& lane : lanes_) lane.caught_up = false;
  timers_.clear();
}

/// Forgets what is known of an identity. False if its run, or a write for it, is still under way:
/// nothing else begins before that has ended.
bool RunLoop::abandon(const ItemPtr& item) {
  ++item->round;
  cancel(item->timer);
  item->token.reset();
  item->newest = Sequence{};
  if (alone_ == item) alone_.reset();
  if (item->state == State::reading) --busy_;
  item->abandoned = item->run || item->writing;
  if (!item->run) {
    item->state = item->writing ? State::storing : State::fresh;
    return !item->writing;
  }
  cancel(item->run->deadline);
  item->run->cancelled = true;
  item->run->stop.request_stop();
  run_slots_->told_to_stop(item->run.get());
  return false;
}

/// What an abandoned identity waited for has ended: it begins anew, if there is a token for it.
void RunLoop::ended_abandoned(const ItemPtr& item) {
  item->abandoned = false;
  item->state = State::fresh;
  begin_anew(*item);
  entries_.drop(item->key);  // it may have been read before the write was done
  if (item->token) return restore(item);
  items_.erase(item->key);
}

void RunLoop::turn(bool may_begin) {
  report_waits_.close_idle();
  resync_.attend();
  if (history_lost_) recover_history();
  if (may_begin) follow_connection();
  follow_backlog();
  follow_statuses();
  follow_losses();
  if (may_begin) follow_lanes();
  begins_ = may_begin && !history_lost_ && leases_.held();
  auto until = advance();
  if (!may_begin) until = std::min(until, Clock::now() + milliseconds(20));
  mailbox_.run_until(until);
}

/// Goes on with whatever can go on. Returns when the owner has to look again at the latest.
RunLoop::Clock::time_point RunLoop::advance() {
  fire_timers();
  if (pool_) pool_->look_again();
  const auto now = Clock::now();
  auto until = std::min(now + std::chrono::seconds(1), begin_ready(now));
  if (!to_begin_.empty()) until = std::min(until, std::max(now, next_begin_));
  if (lanes_leave_) until = std::min(until, now + milliseconds(20));
  if (begins_ && all_caught_up()) until = std::min(until, resync_.turn(now));
  until = std::min(until, statuses_.turn(now));
  pump_erases();
  if (consumed_ > 0 && ready_.size() < limits::identities_ready_max &&
      ready_bytes_ < limits::ready_bytes_max && reader_) {
    reader_->grant(std::exchange(consumed_, 0));
  }
  if (fresh_ && ready_.size(Turn::fresh) < limits::identities_ready_max) fresh_->go_on();
  publish_stats();
  return timers_.empty() ? until : std::min(until, timers_.begin()->first);
}

/// Until the new creation time is known nothing begins: it is part of what an entry says it came
/// from.
void RunLoop::recover_history() {
  if (Clock::now() < next_recovery_) return;
  next_recovery_ = Clock::now() + kTroubleDelay;
  try {
    created_ = streams_.work->state().created;
    // The others may be gone as well; asking for them brings them back.
    streams_.cache->state();
    streams_.status->state();
    history_lost_ = false;
    if (std::exchange(read_again_, false) && reader_) read_from_start();
  } catch (const Error& error) {
    streams_.log.warn("the state of the work stream is unknown", {{"error", error.what()}});
    later(kTroubleDelay, [this] { mailbox_.wake(); });
  }
}

/// A server that was away may have come back with an older end of the stream: tokens that were
/// deleted are there again, and sequences that were read before are given a second time. Neither
/// shows behind the cursor of the reader, so all that is outstanding is read once more. It may have
/// lost the newest entries, too, and a run that changes nothing would not write them again; and
/// statuses that were cleared are there again, or are no longer.
void RunLoop::follow_connection() {
  const std::uint64_t reconnects = streams_.transport->reconnects();
  if (reconnects == reconnects_ || !reader_ || history_lost_) return;
  reconnects_ = reconnects;
  entries_.clear();
  std::array<bool, limits::lanes> mine{};
  for (std::uint32_t number = 0; number < limits::lanes; ++number) {
    lanes_[number].caught_up = false;
    mine[number] = lanes_[number].ours;
  }
  read_from_start();
  status_reading_.reset();
  status_reading_ = std::make_unique<StatusReading>(streams_, mailbox_, type_, mine);
}

/// What was stored while the server came back is known: puts right what differs.
void RunLoop::follow_statuses() {
  if (!status_reading_ || !status_reading_->complete()) return;
  statuses_.compare(status_reading_->take(), [this](const std::string& key) {
    return status_reading_->covers(lane_of_key(key));
  });
  status_reading_.reset();
}

/// True if the stream lost its end and went on from there: a sequence that was passed is that of a
/// message that is newer than all that were read.
bool RunLoop::went_back(const transport::Message& message) {
  const bool passed = message.sequence <= read_to_;
  if (passed && message.stored_at > read_to_at_) return true;
  if (!passed) read_to_ = message.sequence;
  read_to_at_ = std::max(read_to_at_, message.stored_at);
  return false;
}

std::optional<std::uint64_t> RunLoop::losses_known() const {
  return streams_.history ? streams_.history->losses() : std::nullopt;
}

/// Entries that are held in memory may be gone from the bucket.
void RunLoop::follow_losses() {
  const auto losses = losses_known();
  if (!losses || losses == losses_) return;
  if (std::exchange(losses_, losses)) entries_.clear();
}

bool RunLoop::may_begin(const Item& next) const {
  return held(next) && busy_ < slots() && writing_ < limits::publishes_in_flight_max &&
         to_erase_.size() < limits::publishes_in_flight_max;
}

/// How many identities may be on their way to or in a run. The pool has a thread for each run;
/// where runs are short, some more may stand in line, so that a thread need not wait for its next
/// run; but what stands there can no longer be stopped by the failures of those before it.
std::size_t RunLoop::slots() const {
  constexpr auto kShort = std::chrono::microseconds(500);
  constexpr std::size_t kAhead = 128;
  const bool ahead = usual_run_ < kShort && options_.pause_at_failing == 0;
  return options_.concurrency + (ahead ? kAhead : 0);
}

void RunLoop::take_arrived() {
  std::vector<transport::Message> messages;
  std::optional<std::string> loss;
  std::size_t dropped = 0;
  {
    const std::lock_guard lock(arrived_mutex_);
    messages.swap(arrived_);
    loss.swap(history_loss_);
    dropped = std::exchange(dropped_, 0);
  }
  if (loss) forget_history(*loss, dropped);
  consumed_ += messages.size();
  for (transport::Message& message : messages) {
    if (went_back(message)) {
      read_again_ = true;
      return forget_history(
          fmt::format("message {} is another one than before", message.sequence.value), 0);
    }
    take_token(std::move(message), false);
  }
}

void RunLoop::forget_history(const std::string& reason, std::size_t dropped) {
  streams_.log.error("the work stream lost its history: reading it from the start",
                     {{"type", type_}, {"reason", reason}});
  ++stats_.history_losses;
  reset();
  consumed_ += dropped;
  created_.clear();
  tokens_lost_ = true;
  read_to_ = Sequence();
  read_to_at_ = {};
  begins_ = false;
  history_lost_ = true;  // asking for the new creation time blocks: the owner thread does it
  next_recovery_ = {};
  mailbox_.wake();
}

void RunLoop::fire_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

RunLoop::Timers::iterator RunLoop::later(Clock::duration delay, std::function<void()> task) {
  return timers_.emplace(Clock::now() + delay, [this, tenure = tenure_, task = std::move(task)] {
    if (tenure == tenure_) task();
  });
}

void RunLoop::cancel(Timer& timer) {
  if (timer) timers_.erase(*timer);
  timer.reset();
}

void RunLoop::cancel_runs() {
  for (const auto& [key, item] : items_) {
    if (!item->run) continue;
    item->run->cancelled = true;
    item->run->stop.request_stop();
  }
}

/// Any thread: while the owner waits for an answer, what it would stop is another's already.
void RunLoop::cancel_doubted_runs() {
  std::vector<std::shared_ptr<Run>> doubted;
  {
    const std::lock_guard lock(running_mutex_);
    std::ranges::copy_if(running_, std::back_inserter(doubted), [this](const auto& run) {
      return !leases_.held(run->lane, run->input.epoch);
    });
  }
  for (const auto& run : doubted) {
    run->cancelled = true;
    run->stop.request_stop();
  }
}

bool RunLoop::quiet() const {
  return busy_ == 0 && writing_ == 0 && to_erase_.empty() && erasing_ == 0 &&
         statuses_.in_flight() == 0;
}

void RunLoop::finish_work() {
  stopping_ = true;
  const auto grace_ends = Clock::now() + options_.grace;
  while (!quiet() && Clock::now() < grace_ends && leases_.held()) turn(false);
  cancel_runs();
  pool_->run_here();  // what is cancelled calls no handler
  // A handler that ignores its stop token is waited for: its thread cannot be taken from it.
  const auto writes_end = Clock::now() + limits::request_timeout;
  while (busy_ > 0 || (!quiet() && Clock::now() < writes_end)) turn(false);
  reader_.reset();
  fresh_.reset();
  status_reading_.reset();
  steering_.stop();
  resync_.stop();
  pool_.reset();
  std::vector<std::uint32_t> all(limits::lanes);
  std::iota(all.begin(), all.end(), 0);
  settle_lanes(all);
  for (const auto& [key, item] : items_) {
    if (item->writing) leases_.unsettle(item->lane);
  }
  leases_.stop();
  leases_.changes();
  reset();
  lanes_ = {};
  to_begin_.clear();
  lanes_leave_ = false;
  counted_on_ = false;
  report_waits_.close_all();
  timers_.clear();
  publish_stats();
}

void RunLoop::publish_stats() {
  run_slots_->count(options_.concurrency);
  if (pool_) run_slots_->count_refused(pool_->refused());
  stats_.running = std::min(busy_, options_.concurrency);
  stats_.ready = ready_.size() + busy_ - stats_.running;  // some stand in line at the pool
  stats_.retrying = statuses_.size();
  stats_.offline = report_waits_.size();
  stats_.held = held_.size();
  stats_.resynced = resync_.told();
  stats_.paused = steering_.paused() != nullptr;
  stats_.lanes = lanes_owned();
  stats_.holds_lease = stats_.lanes > 0 && leases_.held();
  count_more();
  const std::lock_guard lock(published_mutex_);
  published_ = stats_;
}

// ---- deleting tokens

void RunLoop::erase_token(const Item& item) {
  ++unerased_[item.lane];
  to_erase_.emplace_back(item.current.sequence, item.lane);
}

void RunLoop::pump_erases() {
  do {
    while (!to_erase_.empty() && erasing_ < limits::erases_in_flight_max) {
      const auto [sequence, lane] = to_erase_.front();
      to_erase_.pop_front();
      ++erasing_;
      send_erase(sequence, lane);
    }
    erases_wait_ = !to_erase_.empty();
    // Answers that came before the flag was set woke nobody: look again.
  } while (erases_wait_ && erasing_ <= limits::erases_in_flight_max / 2);
}

void RunLoop::send_erase(Sequence sequence, std::uint32_t lane) {
  streams_.work->erase(sequence,
                       [this, sequence, lane, tenure = tenure_](const Result<bool>& result) {
                         internal::crash_point("deleted a token");
                         const std::size_t left = --erasing_;
                         --unerased_[lane];
                         if (!result.ok()) {
                           mailbox_.post([this, sequence, lane, tenure] {
                             if (tenure != tenure_) return;
                             ++unerased_[lane];
                             erase_again_.emplace_back(sequence, lane);
                             if (erase_again_.size() > 1) return;
                             later(kTroubleDelay, [this] {
                               std::ranges::move(erase_again_, std::back_inserter(to_erase_));
                               erase_again_.clear();
                             });
                           });
                         } else if (erases_wait_ && left == limits::erases_in_flight_max / 2) {
                           mailbox_.post([] {});  // the owner sends the next half
                         }
                       });
}

}  // namespace dmm::worker
