#include "dmm/worker/lease.h"

#include <fmt/format.h>

#include <charconv>

#include "dmm/json.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

std::int64_t nanoseconds_of(steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Holder and whether released. Anything else that someone may have written counts as held by
/// nobody known, who never beats, so it expires.
std::pair<std::string, bool> read_record(const std::string& text) {
  const auto value = parse_json(text);
  if (!value.ok() || !value.value().is_object()) return {};
  const auto holder = value.value().find("holder");
  const auto released = value.value().find("released");
  return {holder != value.value().end() && holder->is_string() ? holder->get<std::string>() : "",
          released != value.value().end() && *released == true};
}

}  // namespace

Lease::Lease(const internal::Streams& streams, std::string name, std::function<void()> on_lost,
             LeaseTiming timing)
    : streams_(streams),
      name_(std::move(name)),
      on_lost_(std::move(on_lost)),
      timing_(timing),
      holder_(wire::unique_id()) {}

Lease::~Lease() {
  release();
}

bool Lease::held() const noexcept {
  return nanoseconds_of(steady_clock::now()) < valid_until_.load(std::memory_order_acquire);
}

std::optional<Tenure> Lease::acquire(const std::stop_token& stop) {
  stop_beating();
  // What was seen of the present holder, and since when nothing new was.
  std::string watched;
  Sequence last_beat;
  auto silent_since = steady_clock::now();
  bool seized = false;  // from a holder that did not release it, perhaps in an attempt in doubt
  while (!stop.stop_requested()) {
    try {
      const auto looked_at = steady_clock::now();
      const std::optional<Record> found = newest();
      const bool ours = found && found->holder == holder_;
      bool free = !found || found->released || ours;
      if (!free) {
        const Sequence beat = last_beat_of(found->holder);
        if (found->holder != watched || beat != last_beat) {
          watched = found->holder;
          last_beat = beat;
          silent_since = steady_clock::now();
        }
        // Only what the server could have told counts: an answer may be long on its way.
        free = looked_at - silent_since >= timing_.ttl;
      }
      const Epoch next{found ? found->epoch.value + 1 : 1};
      if (free && found && !found->released && !ours) seized = true;
      const auto asked_at = steady_clock::now();
      if (free && take(next)) {
        const Tenure tenure{next, ours && found->epoch == epoch(), seized};
        epoch_.store(next.value, std::memory_order_relaxed);
        valid_until_.store(nanoseconds_of(asked_at + timing_.ttl - timing_.margin),
                           std::memory_order_release);
        start_beating();
        forget_older(next);
        streams_.log.info("lease held", {{"lease", name_}, {"epoch", next.value}});
        return tenure;
      }
    } catch (const Error& error) {
      if (error.kind() == Kind::invalid || error.kind() == Kind::unsupported ||
          &error.code() == &code::closed) {
        throw;
      }
      streams_.log.debug("the lease cannot be asked for",
                         {{"lease", name_}, {"error", error.what()}});
      // Not having heard is not the same as silence: begin to count again.
      watched.clear();
    }
    wait(stop, timing_.poll);
  }
  return std::nullopt;
}

void Lease::release() noexcept {
  const bool was_held = held();
  stop_beating();
  valid_until_.store(0, std::memory_order_release);
  if (!was_held) return;
  try {
    transport::publish(
        *streams_.leases,
        {.subject = streams_.names.lease_subject(name_, epoch()), .payload = record(true)},
        timing_.ttl);
  } catch (const Error& error) {
    streams_.log.debug("the lease was not released; it expires",
                       {{"lease", name_}, {"error", error.what()}});
  }
}

std::optional<Lease::Record> Lease::newest() {
  std::optional<Record> record;
  for (const std::string& subject : streams_.leases->subjects(streams_.names.lease_filter(name_))) {
    const std::size_t dot = subject.rfind('.');
    std::uint64_t epoch = 0;
    std::from_chars(subject.data() + dot + 1, subject.data() + subject.size(), epoch);
    if (epoch > 0 && (!record || epoch > record->epoch.value)) {
      record.emplace();
      record->epoch = Epoch{epoch};
    }
  }
  if (!record) return std::nullopt;
  const auto message =
      transport::last(*streams_.leases, streams_.names.lease_subject(name_, record->epoch));
  if (!message) {
    // A newer epoch came and this one was cleared away between the two questions.
    throw Error(code::timed_out, "the newest epoch changed while it was read");
  }
  const auto [holder, released] = read_record(message->payload);
  record->holder = holder;
  record->released = released;
  return record;
}

Sequence Lease::last_beat_of(const std::string& holder) {
  if (holder.empty()) return {};
  const auto message = transport::last(*streams_.leases, streams_.names.beat_subject(holder));
  return message ? message->sequence : Sequence{};
}

bool Lease::take(Epoch epoch) {
  const std::string subject = streams_.names.lease_subject(name_, epoch);
  try {
    transport::publish(*streams_.leases,
                       {.subject = subject, .payload = record(false), .expected_last = Sequence{}},
                       timing_.ttl / 2);
    return true;
  } catch (const Error& error) {
    if (error.kind() == Kind::conflict) return false;
    if (error.kind() != Kind::in_doubt) throw;
  }
  // Unanswered counts as not held until it is read back under our name.
  const auto message = transport::last(*streams_.leases, subject);
  return message && message->payload == record(false);
}

std::string Lease::record(bool released) const {
  nlohmann::json value{{"holder", holder_}};
  if (released) value["released"] = true;
  return dump_json(value);
}

bool Lease::wait(const std::stop_token& stop, milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

void Lease::start_beating() {
  beat_thread_ = std::jthread([this](const std::stop_token& stop) { beat(stop); });
}

void Lease::stop_beating() noexcept {
  if (!beat_thread_.joinable()) return;
  beat_thread_.request_stop();
  beat_thread_.join();
}

void Lease::beat(const std::stop_token& stop) {
  const std::string subject = streams_.names.beat_subject(holder_);
  while (wait(stop, timing_.beat)) {
    const auto sent_at = steady_clock::now();
    const auto left = milliseconds(
        (valid_until_.load(std::memory_order_acquire) - nanoseconds_of(sent_at)) / 1'000'000);
    if (left.count() > 0) {
      try {
        transport::publish(*streams_.leases, {.subject = subject, .payload = record(false)}, left);
        if (!newest_is_ours()) {
          valid_until_.store(0, std::memory_order_release);
        } else if (steady_clock::now() < sent_at + left) {
          valid_until_.store(nanoseconds_of(sent_at + timing_.ttl - timing_.margin),
                             std::memory_order_release);
          continue;
        }
      } catch (const Error& error) {
        streams_.log.debug("a heartbeat was not answered",
                           {{"lease", name_}, {"error", error.what()}});
        if (held()) continue;
      }
    }
    streams_.log.warn("lease lost", {{"lease", name_}, {"epoch", epoch().value}});
    on_lost_();
    return;
  }
}

/// Whoever took the next epoch, or lost the stream in which ours was, ends ours.
bool Lease::newest_is_ours() {
  const auto ours = transport::last(*streams_.leases, streams_.names.lease_subject(name_, epoch()));
  if (!ours || ours->payload != record(false)) return false;
  const Epoch next{epoch().value + 1};
  return !transport::last(*streams_.leases, streams_.names.lease_subject(name_, next));
}

void Lease::forget_older(Epoch epoch) {
  // The newest epoch stays for ever; what lies before it is of no use to anyone.
  try {
    for (const std::string& subject :
         streams_.leases->subjects(streams_.names.lease_filter(name_))) {
      std::uint64_t number = 0;
      const std::size_t dot = subject.rfind('.');
      std::from_chars(subject.data() + dot + 1, subject.data() + subject.size(), number);
      if (number == 0 || number >= epoch.value) continue;
      const auto message = transport::last(*streams_.leases, subject);
      if (!message) continue;
      transport::erase(*streams_.leases, message->sequence);
      const std::string holder = read_record(message->payload).first;
      if (holder.empty() || holder == holder_) continue;
      if (const Sequence beat = last_beat_of(holder)) transport::erase(*streams_.leases, beat);
    }
  } catch (const Error& error) {
    streams_.log.debug("older epochs were not cleared away", {{"error", error.what()}});
  }
}

}  // namespace dmm::worker
