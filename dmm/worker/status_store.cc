#include "dmm/worker/status_store.h"

#include <algorithm>

#include "dmm/internal/parked_event.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::worker {

namespace {

constexpr std::chrono::milliseconds kAgain(500);  // behind a write that was not answered
// Whoever may write now may do so for this long, and must not be heard of once another owner
// cleared the status away.
constexpr std::chrono::milliseconds kSending = limits::lease_margin;

}  // namespace

StatusStore::StatusStore(const internal::Streams& streams, Mailbox& mailbox,
                         std::function<bool(const std::string& key)> mine)
    : streams_(streams), mailbox_(mailbox), mine_(std::move(mine)) {}

CrashToll StatusStore::load(std::string_view type,
                            const std::function<bool(const std::string& key)>& wanted) {
  CrashToll toll;
  transport::scan(*streams_.status, streams_.names.status_filter(type),
                  [&](const transport::Message& message) {
                    const std::string key(streams_.names.status_key(message.subject));
                    const bool is_wanted = wanted(key);
                    if (!is_wanted && !CrashToll::tells(message.payload)) return;
                    auto status = internal::parse_status<internal::Status>(message);
                    if (!status || !parse_key(key)) return;
                    toll.add(*status, message);
                    if (is_wanted) take_in(key, std::move(*status), message.sequence);
                  });
  return toll;
}

bool StatusStore::is_current(const std::string& key, const std::shared_ptr<Slot>& slot) const {
  const auto found = slots_.find(key);
  return found != slots_.end() && found->second == slot;
}

void StatusStore::take_in(const std::string& key, internal::Status status, Sequence stored) {
  auto slot = std::make_shared<Slot>();
  slot->wanted = std::make_shared<internal::Status>(std::move(status));
  slot->stored = stored;
  slot->told = true;
  slots_[key] = std::move(slot);
}

void StatusStore::compare(const StatusReading::Messages& stored,
                          const std::function<bool(const std::string& key)>& read) {
  const auto compared = [&](const std::string& key) { return read(key) && mine_(key); };
  for (const auto& [key, slot] : slots_) {
    if (slot->writing || !compared(key)) continue;
    const auto found = stored.find(key);
    if ((found == stored.end() ? Sequence{} : found->second.sequence) == slot->stored) continue;
    slot->doubt = true;
    unanswered_.insert(key);
  }
  for (const auto& [key, message] : stored) {
    if (!compared(key) || slots_.contains(key) || !parse_key(key)) continue;
    auto status = internal::parse_status<internal::Status>(message);
    if (!status) continue;
    // It was known here, as all are, and cleared.
    take_in(key, std::move(*status), message.sequence);
    clear(key);
  }
}

void StatusStore::forget(const std::function<bool(const std::string& key)>& gone) {
  std::erase_if(slots_, [&](const auto& pair) { return gone(pair.first); });
}

bool StatusStore::writes(const std::function<bool(const std::string& key)>& which) const {
  return std::ranges::any_of(
      slots_, [&](const auto& pair) { return pair.second->writing && which(pair.first); });
}

const internal::Status* StatusStore::find(const std::string& key) const {
  const auto found = slots_.find(key);
  return found == slots_.end() ? nullptr : found->second->wanted.get();
}

Sequence StatusStore::stored(const std::string& key) const {
  const auto found = slots_.find(key);
  return found == slots_.end() ? Sequence() : found->second->stored;
}

void StatusStore::put(const std::string& key, internal::Status status,
                      std::function<void()> stored) {
  std::shared_ptr<Slot>& slot = slots_[key];
  if (!slot) slot = std::make_shared<Slot>();
  slot->wanted = std::make_shared<internal::Status>(std::move(status));
  slot->told = false;
  if (stored) slot->waiting.push_back(std::move(stored));
  write(key, slot);
}

void StatusStore::clear(const std::string& key) {
  const auto found = slots_.find(key);
  if (found == slots_.end()) return;
  found->second->wanted.reset();
  write(key, std::shared_ptr<Slot>(found->second));
}

void StatusStore::write(const std::string& key, const std::shared_ptr<Slot>& slot) {
  slot->dirty = slot->writing;
  if (slot->writing) return;
  if (!slot->wanted && !slot->stored && !slot->doubt) {
    slots_.erase(key);
    return;
  }
  slot->writing = true;
  ++in_flight_;
  if (!slot->doubt) return replace(key, slot, slot->stored);
  streams_.status->last(
      streams_.names.status_subject(key),
      [this, key, slot](const Result<std::optional<transport::Message>>& found) {
        mailbox_.post([this, key, slot, found] {
          if (!found.ok()) return written(key, slot, found.error());
          // An answer may come late. What another owner cleared away
          // meanwhile looks as if nothing had been there.
          if (!is_current(key, slot) || !mine_(key)) {
            return written(key, slot, Error(code::lease_lost, "the lane was lost"));
          }
          replace(key, slot, found.value() ? found.value()->sequence : Sequence{});
        });
      });
}

/// Puts what is wanted in the place of this message, or of none. Who was stopped past its lease
/// does not know what lies there, so it changes nothing.
void StatusStore::replace(const std::string& key, const std::shared_ptr<Slot>& slot,
                          Sequence present) {
  const auto answer = [this, key, slot](const Result<Sequence>& result) {
    mailbox_.post([this, key, slot, result] { written(key, slot, result); });
  };
  if (slot->wanted) {
    streams_.status->publish({.subject = streams_.names.status_subject(key),
                              .payload = dump_json(nlohmann::json(*slot->wanted)),
                              .expected_last = present},
                             kSending, answer);
  } else if (!present) {
    written(key, slot, Sequence{});
  } else {
    streams_.status->erase(present, [answer](const Result<bool>& result) {
      answer(result.ok() ? Result<Sequence>(Sequence{}) : Result<Sequence>(result.error()));
    });
  }
}

void StatusStore::written(const std::string& key, const std::shared_ptr<Slot>& slot,
                          const Result<Sequence>& result) {
  --in_flight_;
  slot->writing = false;
  slot->doubt = !result.ok();
  if (result.ok()) slot->stored = result.value();
  if (!is_current(key, slot)) return;  // loaded anew meanwhile
  if (slot->dirty) return write(key, slot);
  std::vector<std::function<void()>> waiting;
  waiting.swap(slot->waiting);
  for (const auto& told : waiting) told();
  if (!result.ok()) {
    streams_.log.warn("a status could not be written",
                      {{"key", key}, {"error", result.error().what()}});
    if (result.error().kind() == Kind::invalid) return;  // it never can
    if (unanswered_.empty()) again_at_ = Clock::now() + kAgain;
    unanswered_.insert(key);
    return;
  }
  if (slot->wanted && slot->wanted->phase == "parked" && !std::exchange(slot->told, true)) {
    internal::tell_parked(streams_, key, *slot->wanted, result.value());
  }
  if (!slot->wanted) slots_.erase(key);
}

StatusStore::Clock::time_point StatusStore::turn(Clock::time_point now) {
  if (unanswered_.empty()) return Clock::time_point::max();
  if (now < again_at_) return again_at_;
  again_at_ = now + kAgain;
  std::vector<std::string> keys;
  std::erase_if(unanswered_, [&](const std::string& key) {
    const auto found = slots_.find(key);
    if (found == slots_.end() || !found->second->doubt) return true;
    if (!mine_(key) || keys.size() >= limits::publishes_in_flight_max) return false;
    keys.push_back(key);
    return true;
  });
  for (const std::string& key : keys) write(key, std::shared_ptr<Slot>(slots_.at(key)));
  return unanswered_.empty() ? Clock::time_point::max() : again_at_;
}

void StatusStore::refuse(const std::string& subject, Sequence sequence, const Error& error) {
  streams_.log.warn("a token was refused", {{"subject", printable(subject, 300)},
                                            {"code", std::string(error.code().id)},
                                            {"error", error.message()}});
  const internal::Refusal refusal{"token",
                                  printable(subject, 300),
                                  sequence.value,
                                  std::string(error.code().id),
                                  error.message(),
                                  std::chrono::duration_cast<std::chrono::milliseconds>(
                                      internal::SystemClock::now().time_since_epoch())
                                      .count()};
  ++in_flight_;
  streams_.status->publish(
      {.subject = streams_.names.status_subject(internal::refusal_key("token", subject)),
       .payload = dump_json(nlohmann::json(refusal))},
      limits::publish_deadline, [this, refusal](const Result<Sequence>& result) {
        mailbox_.post([this, refusal, stored = result.ok() ? result.value() : Sequence{}] {
          --in_flight_;
          if (stored) internal::tell_refused(streams_, refusal, stored);
        });
      });
}

}  // namespace dmm::worker
