#include "dmm/worker/lease.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "dmm/internal/history.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

std::int64_t nanoseconds_of(steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// A group says in its records which epoch was the last that was not its own.
constexpr const char* kBeforeGroup = "before_group";

Epoch read_before_group(std::string_view text) {
  const auto value = parse_json(text);
  if (!value.ok() || !value.value().is_object()) return {};
  const auto found = value.value().find(kBeforeGroup);
  const bool number = found != value.value().end() && found->is_number_unsigned();
  return Epoch{number ? found->get<std::uint64_t>() : 0};
}

}  // namespace

bool is_holder(std::string_view text) {
  const auto good = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= 100 && std::ranges::all_of(text, good);
}

LeaseRecord read_lease_record(std::string_view text) {
  const auto value = parse_json(text);
  LeaseRecord record;
  if (!value.ok() || !value.value().is_object()) return record;
  const nlohmann::json& fields = value.value();
  const auto says = [&](const char* name) {
    const auto found = fields.find(name);
    return found != fields.end() && *found == true;
  };
  record.released = says("released");
  record.unsettled = says("unsettled");
  const auto names = [&](const char* name) {
    const auto found = fields.find(name);
    const bool good = found != fields.end() && found->is_string() &&
                      is_holder(found->get_ref<const std::string&>());
    return good ? found->get<std::string>() : "";
  };
  record.holder = names("holder");
  record.words_of = names("words_of");
  return record;
}

std::string to_text(const LeaseRecord& record) {
  nlohmann::json value{{"holder", record.holder}};
  if (record.released) value["released"] = true;
  if (record.unsettled) value["unsettled"] = true;
  if (!record.words_of.empty()) value["words_of"] = record.words_of;
  return dump_json(value);
}

std::optional<Epoch> epoch_in(std::string_view subject) {
  const std::string_view text = subject.substr(subject.rfind('.') + 1);
  std::uint64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool all = read.ec == std::errc() && read.ptr == text.data() + text.size();
  if (!all || number == 0 || number > internal::kEpochMax) return std::nullopt;
  return Epoch{number};
}

Lease::Lease(const internal::Streams& streams, std::string name, std::function<void()> on_lost,
             LeaseTiming timing, std::string group)
    : streams_(streams),
      name_(std::move(name)),
      on_lost_(std::move(on_lost)),
      timing_(timing),
      shared_(!group.empty()),
      holder_(shared_ ? std::move(group) : wire::unique_id()),
      life_(streams.life_locks && !shared_ ? streams.life_locks->lock(holder_)
                                           : LifeLocks::Lock()) {}

Lease::~Lease() {
  release();
}

bool Lease::held() const noexcept {
  return nanoseconds_of(internal::SteadyClock::now()) <
         valid_until_.load(std::memory_order_acquire);
}

std::chrono::nanoseconds Lease::left() const noexcept {
  return std::chrono::nanoseconds(valid_until_.load(std::memory_order_acquire) -
                                  nanoseconds_of(internal::SteadyClock::now()));
}

std::optional<Tenure> Lease::acquire(const std::stop_token& stop, std::atomic<bool>* stands_by) {
  stop_beating();
  const auto say_stands_by = [stands_by](bool it_does) {
    if (stands_by != nullptr) stands_by->store(it_does, std::memory_order_relaxed);
  };
  say_stands_by(false);
  Watched watched;
  internal::SteadyClock::time_point not_before;
  bool seized = false;  // from a holder that did not release it, perhaps in an attempt in doubt
  std::string ended;    // that holder, if nobody came in between, who heard its last words
  while (!stop.stop_requested()) {
    bool free_again = false;
    try {
      const auto looked_at = internal::SteadyClock::now();
      const std::optional<Record> found = newest();
      const bool ours = found && found->holder == holder_;
      if (found) watched.gone_since.reset();
      bool free = found ? found->released || ours : is_nobodys(watched, looked_at);
      // Whoever counts the silence of the group has to hear it before the group's next epoch.
      if (shared_ && ours) say_alive(timing_.ttl / 2);
      if (!free && found) {
        if (shows_life(*found, watched)) say_stands_by(true);
        // Only what the server could have told counts: an answer may be long on its way.
        free = looked_at - watched.silent_since >= timing_.ttl ||
               (streams_.life_locks && streams_.life_locks->is_dead(found->holder));
      }
      // Where nothing is found the stream may have lost it: no epoch is used twice.
      const Epoch used = std::max(floor(), found ? found->epoch : Epoch());
      const Epoch next{used.value + 1};
      if (found && !ours && found->holder != ended) ended.clear();
      if (free && found && !found->released && !ours) {
        seized = true;
        ended = found->holder;
      }
      const Epoch before_group = std::max(floor_, !found ? Epoch()
                                                  : ours ? found->before_group
                                                         : found->epoch);
      free = free && looked_at >= not_before;
      if (free && !knows_past()) {
        // Whoever held it may not know that the stream was lost.
        if (floor() > used) not_before = looked_at + timing_.ttl;
        continue;
      }
      const auto asked_at = internal::SteadyClock::now();
      const bool taken = free && take(next, record(before_group)) && is_newest(next);
      // The stream may have been lost in between.
      const bool ours_alone = taken && (shared_ || (knows_past() && next > floor()));
      if (taken && !ours_alone) not_before = internal::SteadyClock::now() + timing_.ttl;
      if (ours_alone) {
        Tenure tenure{next, ours && found->epoch == epoch(), seized, before_group};
        if (!ended.empty() && streams_.life_locks) {
          tenure.last_words = streams_.life_locks->last_words(ended);
        }
        internal::crash_point("took a lease");
        hold(next, asked_at);
        say_stands_by(false);
        return tenure;
      }
      free_again = shared_ && ours;
    } catch (const Error& error) {
      if (error.kind() == Kind::invalid || error.kind() == Kind::unsupported ||
          &error.code() == &code::closed) {
        throw;
      }
      streams_.log.debug("the lease cannot be asked for",
                         {{"lease", name_}, {"error", error.what()}});
      // Not having heard is not the same as silence: begin to count again.
      watched.holder.clear();
    }
    // Many of a group may begin at once: the next epoch is free at once for each of them.
    wait(stop, free_again ? milliseconds(0) : timing_.poll);
  }
  return std::nullopt;
}

/// Nothing was found. If there was something before, the stream lost it, and who held it may not
/// know of that yet.
bool Lease::is_nobodys(Watched& watched, internal::SteadyClock::time_point looked_at) const {
  if (shared_ || std::max(watched.epoch, floor()) == Epoch()) return true;
  watched.gone_since = watched.gone_since.value_or(looked_at);
  return looked_at - *watched.gone_since >= timing_.ttl;
}

/// Takes in what was found. True if the holder lives: what lay there at the first look may be of
/// one that is dead.
bool Lease::shows_life(const Record& found, Watched& watched) {
  const Sequence beat = last_beat_of(found.holder);
  // A new epoch is a sign of life as a beat is, also if its holder is the same as before.
  if (found.holder == watched.holder && found.epoch == watched.epoch && beat == watched.beat) {
    return false;
  }
  const bool first = watched.holder.empty();
  watched.holder = found.holder;
  watched.epoch = found.epoch;
  watched.beat = beat;
  watched.silent_since = internal::SteadyClock::now();
  return !first;
}

void Lease::hold(Epoch epoch, internal::SteadyClock::time_point asked_at) {
  epoch_.store(epoch.value, std::memory_order_relaxed);
  valid_until_.store(nanoseconds_of(asked_at + timing_.ttl - timing_.margin),
                     std::memory_order_release);
  start_beating();
  forget_older(epoch);
  streams_.log.info("lease held", {{"lease", name_}, {"epoch", epoch.value}});
}

Epoch Lease::floor() const {
  const Epoch lost = streams_.history ? streams_.history->epoch_floor() : Epoch();
  return std::max({floor_, lost, epoch()});
}

/// True if floor() counted for the stream as it is now; if not, it does now. A group leaves that to
/// those in it.
bool Lease::knows_past() {
  if (shared_ || !streams_.history) return true;
  if (streams_.history->knows_leases(streams_.leases->state().created)) return true;
  streams_.history->look(streams_);
  return false;
}

void Lease::release() noexcept {
  const bool was_held = held();
  stop_beating();
  valid_until_.store(0, std::memory_order_release);
  if (!was_held || shared_) return;
  internal::crash_point("gives a lease");
  try {
    transport::publish(*streams_.leases,
                       {.subject = streams_.names.lease_subject(name_, epoch()),
                        .payload = to_text({holder_, true})},
                       timing_.ttl);
  } catch (const Error& error) {
    streams_.log.debug("the lease was not released; it expires",
                       {{"lease", name_}, {"error", error.what()}});
  }
}

std::optional<Lease::Record> Lease::newest() {
  std::optional<Record> record;
  for (const std::string& subject : streams_.leases->subjects(streams_.names.lease_filter(name_))) {
    const std::optional<Epoch> epoch = epoch_in(subject);
    if (epoch && (!record || *epoch > record->epoch)) {
      record.emplace();
      record->epoch = *epoch;
    }
  }
  if (!record) return std::nullopt;
  const auto message =
      transport::last(*streams_.leases, streams_.names.lease_subject(name_, record->epoch));
  if (!message) {
    // A newer epoch came and this one was cleared away between the two questions.
    throw Error(code::timed_out, "the newest epoch changed while it was read");
  }
  LeaseRecord read = read_lease_record(message->payload);
  record->holder = std::move(read.holder);
  record->released = read.released;
  record->before_group = read_before_group(message->payload);
  return record;
}

Sequence Lease::last_beat_of(const std::string& holder) {
  if (holder.empty()) return {};
  const auto message = transport::last(*streams_.leases, streams_.names.beat_subject(holder));
  return message ? message->sequence : Sequence{};
}

/// Who slept since it looked may be first on an epoch whose message was cleared away meanwhile.
/// Then a later one is there: the newest is never cleared away.
bool Lease::is_newest(Epoch epoch) {
  const std::optional<Record> found = newest();
  return found && found->epoch == epoch;
}

std::string Lease::record(Epoch before_group) const {
  if (!shared_) return to_text({holder_});
  return dump_json({{"holder", holder_}, {kBeforeGroup, before_group.value}});
}

void Lease::say_alive(milliseconds deadline) {
  transport::publish(
      *streams_.leases,
      {.subject = streams_.names.beat_subject(holder_), .payload = to_text({holder_})}, deadline);
}

bool Lease::take(Epoch epoch, const std::string& record) {
  const std::string subject = streams_.names.lease_subject(name_, epoch);
  try {
    transport::publish(*streams_.leases,
                       {.subject = subject, .payload = record, .expected_last = Sequence{}},
                       timing_.ttl / 2);
    return true;
  } catch (const Error& error) {
    if (error.kind() == Kind::conflict) return false;
    if (error.kind() != Kind::in_doubt) throw;
  }
  // Unanswered counts as not held until it is read back under our name.
  const auto message = transport::last(*streams_.leases, subject);
  // That another of the group has it is as good.
  return message && message->payload == record;
}

bool Lease::wait(const std::stop_token& stop, milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

void Lease::start_beating() {
  beat_thread_ = internal::Thread([this](const std::stop_token& stop) { beat(stop); });
}

void Lease::stop_beating() noexcept {
  if (!beat_thread_.joinable()) return;
  beat_thread_.request_stop();
  beat_thread_.join();
}

void Lease::beat(const std::stop_token& stop) {
  auto pause = timing_.beat;
  while (wait(stop, pause)) {
    const auto sent_at = internal::SteadyClock::now();
    const auto left = milliseconds(
        (valid_until_.load(std::memory_order_acquire) - nanoseconds_of(sent_at)) / 1'000'000);
    if (left.count() > 0) {
      try {
        say_alive(left);
        if (!newest_is_ours()) {
          valid_until_.store(0, std::memory_order_release);
        } else if (internal::SteadyClock::now() < sent_at + left) {
          valid_until_.store(nanoseconds_of(sent_at + timing_.ttl - timing_.margin),
                             std::memory_order_release);
          // An answer that was long on its way has renewed little: the next one is due the sooner.
          const auto took = internal::SteadyClock::now() - sent_at;
          pause = timing_.beat - std::min(timing_.beat, std::chrono::ceil<milliseconds>(took));
          continue;
        }
      } catch (const Error& error) {
        streams_.log.debug("a heartbeat was not answered",
                           {{"lease", name_}, {"error", error.what()}});
        pause = timing_.poll;
        if (held()) continue;
      }
    }
    on_lost_();
    streams_.log.warn("lease lost", {{"lease", name_}, {"epoch", epoch().value}});
    return;
  }
}

/// Whoever took the next epoch, or lost the stream in which ours was, ends ours.
bool Lease::newest_is_ours() {
  if (shared_) {
    const std::optional<Record> found = newest();
    return found && found->holder == holder_ && !found->released;
  }
  const auto ours = transport::last(*streams_.leases, streams_.names.lease_subject(name_, epoch()));
  if (!ours && streams_.history) {
    const std::optional<Record> found = newest();
    if (!found || found->epoch < epoch()) {
      streams_.history->leases_were_lost(
          epoch(), fmt::format("epoch {} of {} is gone", epoch().value, name_));
    }
  }
  if (!ours || ours->payload != to_text({holder_})) return false;
  const Epoch next{epoch().value + 1};
  return !transport::last(*streams_.leases, streams_.names.lease_subject(name_, next));
}

void Lease::forget_older(Epoch epoch) {
  // The newest epoch stays for ever; what lies before it is of no use to anyone.
  try {
    for (const std::string& subject :
         streams_.leases->subjects(streams_.names.lease_filter(name_))) {
      const std::optional<Epoch> older = epoch_in(subject);
      if (!older || *older >= epoch) continue;
      const auto message = transport::last(*streams_.leases, subject);
      if (!message) continue;
      transport::erase(*streams_.leases, message->sequence);
      const std::string holder = read_lease_record(message->payload).holder;
      if (holder.empty() || holder == holder_) continue;
      if (const Sequence beat = last_beat_of(holder)) transport::erase(*streams_.leases, beat);
    }
  } catch (const Error& error) {
    streams_.log.debug("older epochs were not cleared away", {{"error", error.what()}});
  }
}

}  // namespace dmm::worker
