#include "dmm/worker/lane_leases.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/internal/runtime.h"

#include "dmm/internal/history.h"

namespace dmm::worker {

using std::chrono::milliseconds;

namespace {

constexpr auto kCleaning = std::chrono::seconds(30);  // between looks for empty seats
/// Who asked for lanes that were another's has not read yet what the other wrote.
constexpr auto kReadOn = std::chrono::milliseconds(50);

std::int64_t nanoseconds_of(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

}  // namespace

LaneLeases::LaneLeases(const internal::Streams& streams, std::string type,
                       std::function<void()> changed, std::function<void()> doubted,
                       LeaseTiming timing)
    : streams_(streams),
      type_(std::move(type)),
      changed_(std::move(changed)),
      doubted_(std::move(doubted)),
      timing_(timing),
      holder_(wire::unique_id()),
      life_(streams.life_locks ? streams.life_locks->lock(holder_) : LifeLocks::Lock()),
      table_(type_, holder_, timing.ttl),
      group_(
          streams, fmt::format("work.{}.all", type_), [this] { mailbox_.wake(); }, timing,
          fmt::format("lanes-{}", type_)) {}

LaneLeases::~LaneLeases() {
  stop();
}

void LaneLeases::start() {
  if (streams_.life_locks) {
    watch_ = streams_.life_locks->listen(
        [this] { mailbox_.post([this] { next_look_for_dead_ = {}; }); });
  }
  guard_ = internal::Thread([this](const std::stop_token& stop) { guard(stop); });
  thread_ = internal::Thread([this](const std::stop_token& stop) { run(stop); });
}

void LaneLeases::stop() noexcept {
  if (!thread_.joinable()) return;
  watch_ = {};
  thread_.request_stop();
  thread_.join();
  guard_ = internal::Thread();
}

std::vector<LaneChange> LaneLeases::changes() {
  const std::lock_guard lock(changes_mutex_);
  return std::exchange(changes_, {});
}

bool LaneLeases::held() const noexcept {
  return nanoseconds_of(Clock::now()) < valid_until_.load(std::memory_order_acquire) &&
         group_.held();
}

void LaneLeases::check() const {
  const std::lock_guard lock(changes_mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void LaneLeases::release(std::uint32_t lane, Epoch epoch) {
  mailbox_.post([this, lane, epoch] {
    if (epochs_[lane] != epoch.value) return;
    epochs_[lane] = 0;
    told_[lane] = false;
    owned_before_[lane] = Epoch();
    LeaseRecord said = release_of(lane);
    const std::string text = to_text(said);
    table_.note_said(lane, epoch, std::move(said));
    streams_.leases->publish({.subject = streams_.names.lane_subject(type_, lane, epoch),
                              .payload = text,
                              .urgent = true},
                             timing_.ttl, [this, lane, epoch](const Result<Sequence>& result) {
                               if (result.ok()) return;
                               // It is ours still, in the eyes of the others: take it again.
                               mailbox_.post([this, lane, epoch] {
                                 table_.note_said(lane, epoch, {holder_});
                                 if (!heard_[lane]) taking_from_[lane] = words_of_[lane];
                               });
                             });
  });
}

// ---- the guard: the other threads may wait for the server just when the lanes are lost

void LaneLeases::guard(const std::stop_token& stop) {
  bool told = true;
  std::uint64_t losses = losses_;
  std::unique_lock lock(guard_mutex_);
  while (!stop.stop_requested()) {
    const bool counted_on = held();
    const std::uint64_t known = std::exchange(losses, losses_);
    if (counted_on) told = false;
    if (known != losses || (!counted_on && !told)) {
      told = !counted_on;
      lock.unlock();
      doubted_();
      lock.lock();
    } else if (counted_on) {
      // Each answered beat has put it off by the time that it passes.
      guard_alerted_.wait_until(lock, stop, held_until(),
                                [&] { return !held() || losses != losses_; });
    } else {
      guard_alerted_.wait(lock, stop, [&] { return held() || losses != losses_; });
    }
  }
}

void LaneLeases::alert() {
  const std::lock_guard lock(guard_mutex_);
  guard_alerted_.notify_all();
}

LaneLeases::Clock::time_point LaneLeases::held_until() const noexcept {
  const auto now = Clock::now();
  const std::chrono::nanoseconds left(valid_until_.load(std::memory_order_acquire) -
                                      nanoseconds_of(now));
  return now + std::chrono::duration_cast<Clock::duration>(std::min(left, group_.left()));
}

// ---- the reader's thread

void LaneLeases::on_message(transport::Message message) noexcept {
  mailbox_.post([this, message = std::move(message)] { follow(message); });
}

void LaneLeases::on_complete() noexcept {
  mailbox_.post([this] { read_ = true; });
}

void LaneLeases::on_history_lost(std::string reason) noexcept {
  mailbox_.post([this, reason = std::move(reason)] {
    for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
      used_ = std::max({used_, table_.floor(), table_.epoch_of(lane)});
    }
    // Who comes new knows only what the stream has.
    if (streams_.history) streams_.history->leases_were_lost(used_, reason);
    doubt_all(reason);
    table_.clear();
    table_.set_floor(used_);
    read_ = false;
    past_known_ = false;
  });
}

// ---- the thread

void LaneLeases::run(const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  try {
    serve(stop);
  } catch (...) {
    const std::lock_guard lock(changes_mutex_);
    failure_ = std::current_exception();
  }
  leave();
  changed_();
}

void LaneLeases::serve(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (!group_.held()) {
      lapse("the type as a whole is leased by others");
      if (!join_group(stop)) return;
    }
    if (read_ && !past_known_) look_at_past();
    if (past_known_) heed_losses();
    const auto now = Clock::now();
    turn(now);
    auto until = now + timing_.poll;
    // A beat that is not answered keeps the next one waiting, whenever that is due.
    if (!beating_) until = std::min(until, next_beat_);
    if (next_take_ > now) until = std::min(until, next_take_);
    mailbox_.run_until(until);
  }
}

bool LaneLeases::join_group(const std::stop_token& stop) {
  if (streams_.history) used_ = std::max(used_, streams_.history->epoch_floor());
  group_.set_floor(used_);
  const std::optional<Tenure> tenure = group_.acquire(stop);
  if (!tenure) return false;
  // If others had the type in between, nothing of what was begun is ours.
  if (table_.floor() != tenure->before_group) lose_all();
  table_.set_floor(tenure->before_group);
  if (reader_) return true;
  reader_ =
      streams_.leases->read({.filter = streams_.names.lanes_filter(type_), .after = {}}, *this);
  reader_->grant(std::size_t{1} << 40);
  return true;
}

/// The stream that was read may be another one than that whose losses are known here.
void LaneLeases::look_at_past() {
  if (!streams_.history) {
    past_known_ = true;
    return;
  }
  try {
    stream_ = streams_.leases->state().created;
    if (!streams_.history->knows_leases(stream_)) streams_.history->look(streams_);
    past_known_ = streams_.history->knows_leases(stream_);
  } catch (const Error& error) {
    streams_.log.debug("the lease stream could not be looked at",
                       {{"type", type_}, {"error", error.what()}});
  }
  if (!past_known_) return;
  const Epoch lost = streams_.history->epoch_floor();
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    if (table_.epoch_of(lane) < lost) next_take_ = Clock::now() + timing_.ttl;
  }
  table_.set_floor(std::max(table_.floor(), lost));
}

/// Epochs that others may have used are nobody's, whoever finds that out.
void LaneLeases::heed_losses() {
  if (!streams_.history) return;
  const Epoch lost = streams_.history->epoch_floor();
  if (lost <= table_.floor()) return;
  doubt_all("the lease stream lost its history");
  table_.set_floor(lost);
}

/// Nothing is owned, and for as long as a lease lasts nothing is taken: whoever owned it as the
/// stream was lost may not know of that yet.
void LaneLeases::doubt_all(const std::string& why) {
  lapse(why);
  lose_all();
  next_take_ = Clock::now() + timing_.ttl;
}

void LaneLeases::turn(Clock::time_point now) {
  if (alive_ && nanoseconds_of(now) >= valid_until_) lapse("no beat was answered in time");
  beat(now);
  if (!alive_ || !past_known_) return;
  look_for_dead(now);
  ask_for_suspects(now);
  set_share(table_.share(now));
  joined_ = true;
  if (now >= next_take_) take_offers();
  clear_seats(now);
}

void LaneLeases::beat(Clock::time_point now) {
  if (beating_ || now < next_beat_) return;
  beating_ = true;
  next_beat_ = now + timing_.beat;
  streams_.leases->publish({.subject = streams_.names.seat_subject(type_, holder_),
                            .payload = to_text({holder_}),
                            .expected_last = seat_,
                            .urgent = true},
                           timing_.ttl, [this, now](const Result<Sequence>& result) {
                             mailbox_.post([this, now, result] { beaten(now, result); });
                           });
}

void LaneLeases::beaten(Clock::time_point sent_at, const Result<Sequence>& result) {
  beating_ = false;
  const auto now = Clock::now();
  if (!result.ok()) {
    next_beat_ = now + timing_.poll;
    if (result.error().kind() == Kind::conflict) find_own_seat();
    return;
  }
  seat_ = result.value();
  // An answer that comes too late renews nothing: meanwhile a lane may be another's.
  if (alive_ && nanoseconds_of(now) >= valid_until_) lapse("a beat was answered too late");
  const auto until = sent_at + timing_.ttl - timing_.margin;
  if (until <= now) return;
  if (!alive_) table_.count_anew(now);
  alive_ = true;
  valid_until_.store(nanoseconds_of(until), std::memory_order_release);
  alert();
}

/// The last beat is not where it was: one that was never answered came after it, or all is lost.
void LaneLeases::find_own_seat() {
  streams_.leases->last(
      streams_.names.seat_subject(type_, holder_),
      [this](const Result<std::optional<transport::Message>>& found) {
        if (!found.ok()) return;
        mailbox_.post([this, beat = found.value() ? found.value()->sequence : Sequence()] {
          if (beat < seat_) {
            // The reader may not have noticed it yet.
            doubt_all("the lease stream lost its history");
            past_known_ = false;
          }
          seat_ = beat;
          next_beat_ = Clock::now();
        });
      });
}

void LaneLeases::lapse(std::string_view why) {
  if (!alive_) return;
  alive_ = false;
  ++term_;
  valid_until_.store(0, std::memory_order_release);
  taking_ = {};
  asked_ = 0;
  won_.clear();
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    const Epoch epoch{epochs_[lane].exchange(0)};
    if (epoch.value > 0) owned_before_[lane] = epoch;
  }
  ++losses_;
  alert();
  changed_();
  streams_.log.warn("lanes lost", {{"type", type_}, {"why", why}});
}

void LaneLeases::follow(const transport::Message& message) {
  const auto lane = table_.take(streams_.names.lease_name(message.subject), message, Clock::now());
  if (!lane || table_.holder_of(*lane) == holder_) return;
  const std::uint64_t ours = std::max(epochs_[*lane].load(), owned_before_[*lane].value);
  if (table_.epoch_of(*lane).value > ours) lose(*lane);
}

void LaneLeases::lose(std::uint32_t lane) {
  epochs_[lane] = 0;
  owned_before_[lane] = Epoch();
  if (!std::exchange(told_[lane], false)) return;
  ++losses_;
  alert();
  tell({lane, std::nullopt});
  publish_changes();
}

void LaneLeases::lose_all() {
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) lose(lane);
}

/// Those of this machine whose processes have ended.
void LaneLeases::look_for_dead(Clock::time_point now) {
  if (!streams_.life_locks || now < next_look_for_dead_) return;
  next_look_for_dead_ = now + timing_.poll;
  for (const std::string& holder : table_.living()) {
    if (!streams_.life_locks->is_dead(holder)) continue;
    table_.note_dead(holder);
    say_dead(holder);
    if (!table_.holds(holder)) continue;
    streams_.log.info("a worker of this machine has died; its lanes are free",
                      {{"type", type_}, {"holder", holder}});
  }
}

/// Silence may be the reader's: only what the server knows makes a holder dead.
void LaneLeases::ask_for_suspects(Clock::time_point now) {
  for (const std::string& holder : table_.suspects(now)) {
    if (holder.empty()) {
      table_.confirm(holder, now);
      continue;
    }
    streams_.leases->last(
        streams_.names.seat_subject(type_, holder),
        [this, now, name = holder](const Result<std::optional<transport::Message>>& found) {
          if (!found.ok()) return;
          mailbox_.post([this, now, name, beat = found.value()] {
            if (beat) table_.take(fmt::format("seat.{}.{}", type_, name), *beat, Clock::now());
            if (table_.confirm(name, now)) say_dead(name);
          });
        });
  }
}

/// Tells all at once what one of them found out: who came a moment ago would count the silence of
/// the dead from then on. Holds only behind the beat that was the last one: had the holder beaten
/// since, the condition fails; and a beat that comes later fails, so it never counted for anything.
void LaneLeases::say_dead(const std::string& holder) {
  streams_.leases->publish({.subject = streams_.names.seat_subject(type_, holder),
                            .payload = to_text({holder, true}),
                            .expected_last = table_.beat_of(holder),
                            .urgent = true},
                           timing_.ttl, [](const Result<Sequence>&) {});
}

void LaneLeases::take_offers() {
  std::size_t mine = 0;
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) mine += owns(lane) || taking_[lane];
  for (const LaneTable::Offer& offer : table_.offers()) {
    if (owns(offer.lane) || taking_[offer.lane]) continue;
    // What lies there under our own name is taken in any case: nobody else may.
    if (!offer.own && mine >= share()) continue;
    ++mine;
    take(offer);
  }
}

void LaneLeases::take(const LaneTable::Offer& offer) {
  taking_[offer.lane] = true;
  // Our own name is there if a take was not answered: then it is as when that was asked for.
  if (!offer.own) taking_from_[offer.lane] = table_.words_of(offer.lane);
  ++asked_;
  streams_.leases->publish(
      {.subject = streams_.names.lane_subject(type_, offer.lane, offer.epoch),
       .payload = to_text({holder_}),
       .expected_last = Sequence{},
       .urgent = true},
      timing_.ttl / 2, [this, offer, term = term_](const Result<Sequence>& result) {
        mailbox_.post([this, offer, term, result] { taken(offer, term, result); });
      });
}

void LaneLeases::taken(const LaneTable::Offer& offer, std::uint64_t term,
                       const Result<Sequence>& result) {
  if (term != term_) return;
  // Unanswered, it counts as not taken: if it was, its record comes back under our name.
  if (result.ok()) {
    won_.emplace_back(offer, result.value());
  } else {
    read_on();
  }
  if (--asked_ == 0) look_at_won();
}

/// To be first on an epoch is to have it, unless what was first there has been cleared away
/// already, and we knew too little. Then a later epoch is in the stream: the newest is never
/// cleared away.
void LaneLeases::look_at_won() {
  const auto won = std::exchange(won_, {});
  taking_ = {};
  std::array<Epoch, limits::lanes> newest{};
  std::vector<std::pair<std::uint32_t, Epoch>> there;
  try {
    const std::string filter = streams_.names.lease_filter(fmt::format("work.{}.*", type_));
    if (!won.empty()) {
      for (const std::string& subject : streams_.leases->subjects(filter)) {
        const auto found = lane_in(streams_.names.lease_name(subject), type_);
        if (!found) continue;
        newest[found->first] = std::max(newest[found->first], found->second);
        there.push_back(*found);
      }
    }
    if (streams_.history && !won.empty() && streams_.leases->created() != stream_) {
      // What was asked for before the loss was repeated until there was a stream again.
      doubt_all("the lease stream lost its history");
      past_known_ = false;
    }
  } catch (const Error& error) {
    streams_.log.debug("the lanes that were taken could not be looked at",
                       {{"type", type_}, {"error", error.what()}});
    read_on();
  }
  if (alive_ && nanoseconds_of(Clock::now()) >= valid_until_) lapse("no beat was answered in time");
  for (const auto& [offer, message] : won) {
    if (newest[offer.lane] == offer.epoch && alive_) {
      own(offer, message);
      // What an answer that never came left behind, here or at another worker.
      for (const auto& [lane, epoch] : there) {
        if (lane == offer.lane && epoch < offer.before) forget_epoch(lane, epoch);
      }
    } else if (newest[offer.lane] > offer.epoch) {
      streams_.leases->erase(message, [](const Result<bool>&) {});
      read_on();
    }
  }
  publish_changes();
}

/// Takes nothing for a moment: a reader that lags would have the same lanes asked for at once,
/// again and again.
void LaneLeases::read_on() {
  next_take_ = std::max(next_take_, Clock::now() + kReadOn);
}

void LaneLeases::own(const LaneTable::Offer& offer, Sequence message) {
  internal::crash_point("took a lane");
  table_.note_taken(offer.lane, offer.epoch, message);
  epochs_[offer.lane].store(offer.epoch.value, std::memory_order_release);
  const bool continued = offer.own && owned_before_[offer.lane] == offer.before;
  const bool taken_over = !continued && !offer.settled && offer.epoch.value > 1;
  if (!continued && told_[offer.lane]) tell({offer.lane, std::nullopt});
  told_[offer.lane] = true;
  LastWords words;
  if (!continued) {
    if (taken_over && streams_.life_locks) {
      words = streams_.life_locks->last_words(taking_from_[offer.lane]);
    }
    words_of_[offer.lane] = std::exchange(taking_from_[offer.lane], {});
    unsettled_[offer.lane] = taken_over;
    heard_[offer.lane] = words.run.empty();
  }
  tell({offer.lane, Tenure{offer.epoch, continued, taken_over, {}, std::move(words)}});
  if (offer.message) streams_.leases->erase(offer.message, [](const Result<bool>&) {});
}

void LaneLeases::forget_epoch(std::uint32_t lane, Epoch epoch) {
  streams_.leases->last(
      streams_.names.lane_subject(type_, lane, epoch),
      [leases = streams_.leases](const Result<std::optional<transport::Message>>& found) {
        if (!found.ok() || !found.value()) return;
        leases->erase(found.value()->sequence, [](const Result<bool>&) {});
      });
}

void LaneLeases::clear_seats(Clock::time_point now) {
  if (now < next_cleaning_) return;
  next_cleaning_ = now + kCleaning;
  for (const Sequence seat : table_.clear_seats(now)) {
    streams_.leases->erase(seat, [](const Result<bool>&) {});
  }
}

void LaneLeases::set_share(std::size_t share) {
  if (share_.exchange(share) != share) changed_();
}

void LaneLeases::tell(LaneChange change) {
  untold_.push_back(std::move(change));
}

/// Lanes that were asked for together are told together: their tokens are read in one go.
void LaneLeases::publish_changes() {
  {
    const std::lock_guard lock(changes_mutex_);
    std::ranges::move(untold_, std::back_inserter(changes_));
  }
  untold_.clear();
  changed_();
}

/// What the next owner of a lane has to know.
LeaseRecord LaneLeases::release_of(std::uint32_t lane) const {
  return {holder_, true, unsettled_[lane], heard_[lane] ? "" : words_of_[lane]};
}

void LaneLeases::leave() noexcept {
  reader_.reset();
  const bool counted_on = held();
  valid_until_.store(0, std::memory_order_release);
  std::vector<transport::Publication> words;
  for (std::uint32_t lane = 0; counted_on && lane < limits::lanes; ++lane) {
    if (!owns(lane)) continue;
    words.push_back({.subject = streams_.names.lane_subject(type_, lane, Epoch{epochs_[lane]}),
                     .payload = to_text(release_of(lane)),
                     .urgent = true});
  }
  // The seat is left last, when the lanes are free.
  if (seat_) {
    words.push_back({.subject = streams_.names.seat_subject(type_, holder_),
                     .payload = to_text({holder_, true}),
                     .urgent = true});
  }
  const auto answered = std::make_shared<internal::Countdown>(words.size());
  for (transport::Publication& word : words) {
    streams_.leases->publish(std::move(word), timing_.ttl,
                             [answered](const Result<Sequence>&) { answered->count_down(); });
  }
  answered->wait();
  group_.release();
  ++term_;
  alive_ = false;
  seat_ = Sequence();
  read_ = false;
  past_known_ = false;
  beating_ = false;
  next_beat_ = {};
  taking_ = {};
  asked_ = 0;
  won_.clear();
  told_ = {};
  untold_.clear();
  owned_before_ = {};
  for (auto& epoch : epochs_) epoch = 0;
  table_.clear();
}

}  // namespace dmm::worker
