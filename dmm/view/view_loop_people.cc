// The part of the view loop that listens: orders and releases of people, what became of a rollout,
// tokens of owners of the past.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/history.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/release.h"
#include "dmm/view/view_loop.h"

namespace dmm::view {

void ViewLoop::watch_people() {
  people_ = streams_.status->read(
      {.filter = streams_.names.status_subject(fmt::format("view.*.{}", name())), .after = {}},
      *this);
  people_->grant(1);
  tokens_ = streams_.work->read({.filter = streams_.names.token_filter(view_.type),
                                 .after = {},
                                 .only_new = true,
                                 .headers_only = true},
                                *this);
  tokens_->grant(limits::read_batch);
  if (!gate_.limited()) return;
  statuses_ = streams_.status->read(
      {.filter = streams_.names.status_subject(view_.type + ".*"), .after = {}, .only_new = true},
      *this);
  statuses_->grant(limits::read_batch);
}

void ViewLoop::on_message(transport::Message message) noexcept {
  mailbox_.post([this, message = std::move(message)] {
    if (wire::split_token(message.subject)) {
      if (tokens_) tokens_->grant(1);
      return on_token(message);
    }
    const std::string key(streams_.names.status_key(message.subject));
    // An identity's key has two parts, a view's three.
    if (std::ranges::count(key, '.') == 1) {
      if (statuses_) statuses_->grant(1);
      return on_status(key, message);
    }
    if (people_) people_->grant(1);
    if (!computation_) return;
    if (key == order_key(name())) on_order(message);
    if (key == release_key(name())) on_release(message);
    if (key == state_key(name())) on_state(message);
  });
}

/// A token that was told may be gone, and with it the entry that was to come of it: what is known
/// of entries is no longer what the next owner may begin with, and rows are compared with them
/// anew.
void ViewLoop::on_history_lost(std::string reason) noexcept {
  mailbox_.post([this, reason = std::move(reason)] {
    known_.reset();
    if (!rebuild_ && computation_) rebuild(reason);
  });
}

/// What was told may be gone without a word to any reader: the cache has none here.
void ViewLoop::follow_losses() {
  const auto losses = streams_.history ? streams_.history->losses() : std::nullopt;
  if (!losses || losses == losses_) return;
  if (!std::exchange(losses_, losses) || rebuild_ || !computation_) return;
  known_.reset();
  rebuild("news or caches of the namespace were lost");
}

/// An order waits in the bucket until an owner that has loaded the view has followed it.
void ViewLoop::on_order(const transport::Message& message) {
  const auto order = parse_order(message);
  if (!order) return;
  const PendingOrder pending{*order, message.sequence};
  if (!telling_) {
    pending_order_ = pending;
    return;
  }
  follow(pending);
}

void ViewLoop::follow(const PendingOrder& pending) {
  // It is followed once: what is held later is not what the person looked at.
  streams_.status->erase(pending.sequence, [](const Result<bool>&) {});
  if (pending.order.what == "approve") return approve(pending.order.removals);
  if (pending.order.what == "rebuild") {
    void_snapshots();
    return rebuild("a person asked for it");
  }
  streams_.log.warn("an order is not known",
                    {{"view", name()}, {"order", printable(pending.order.what, 100)}});
}

/// An owner that was paused past its lease and did not know it may have told what is old. A token
/// cannot be fenced as an entry is, so its identity is told again.
void ViewLoop::on_token(const transport::Message& message) {
  if (!telling_ || wire::view_of(message.header(wire::kView).value_or("")) != name()) return;
  std::uint64_t epoch = 0;
  const std::string_view text = message.header(wire::kEpoch).value_or("");
  std::from_chars(text.data(), text.data() + text.size(), epoch);
  if (epoch == lease_->epoch().value) return;
  const auto id = decode_id(wire::split_token(message.subject)->id);
  if (!id) return;
  Rows::Slot& slot = computation_->rows().at(*id);
  // Whatever it said. Something must have been told, or a row that is gone could not be taken back.
  slot.told = engine::from_json(nlohmann::json::object());
  slot.overtaken = message.sequence;
  streams_.log.warn("an owner of the past told an identity: it is told again",
                    {{"view", name()}, {"id", printable(*id, 100)}, {"epoch", epoch}});
  if (!slot.queued) consider({*id});
}

/// An owner that did not know it is one no longer may have written over the state.
void ViewLoop::on_state(const transport::Message& message) {
  const auto state = parse_state(message);
  if (state && state->epoch == lease_->epoch().value) return;
  saved_.clear();
}

/// Another release came in. One that cannot be kept here leaves the present one at work.
void ViewLoop::on_release(const transport::Message& message) {
  const auto next = parse_release(message);
  if (!next || next->number <= release_.number) return;
  try {
    compile(view_of(*next, declared_));
  } catch (const Error& error) {
    return refuse("release", error);
  }
  rebuild(fmt::format("release {} was {}", next->number, next->by));
}

void ViewLoop::on_status(const std::string& key, const transport::Message& message) {
  const auto identity = parse_key(key);
  if (!identity) return;
  const bool was_stopped = !gate_.stopped().empty();
  if (const auto status = internal::parse_status<internal::Status>(message)) {
    gate_.failed(identity->id, Sequence{status->token});
  } else {
    gate_.recovered(identity->id);
  }
  if (was_stopped || gate_.stopped().empty()) return;
  streams_.log.error("the rollout of a view is stopped",
                     {{"view", name()}, {"release", release_.number}, {"reason", gate_.stopped()}});
  saved_at_ = {};
}

/// Nothing differs from the caches any more that was not told.
void ViewLoop::finish_rollout() {
  if (!telling_ || rolled_out_ >= release_.number || sending_ > 0) return;
  if (!to_tell_.empty() || !failed_.empty() || !missing_.empty() || !removals_.held().empty()) {
    return;
  }
  if (!gate_.stopped().empty() || !gate_.settled(Clock::now())) return;
  streams_.log.info("a release of the view is rolled out",
                    {{"view", name()}, {"release", release_.number}});
  rolled_out_ = release_.number;
  gate_ = RolloutGate({}, Clock::now());
  statuses_.reset();
  saved_at_ = {};
}

void ViewLoop::approve(std::uint64_t removals) {
  if (!telling_) return;
  const std::size_t held = removals_.held().size();
  if (removals < held || (held == 0 && !removals_.in_doubt())) {
    streams_.log.warn("an approval does not cover what is held",
                      {{"view", name()}, {"held", held}, {"approved", removals}});
    return;
  }
  internal::crash_point("approves removals");
  streams_.log.info("removals were approved", {{"view", name()}, {"count", held}});
  for (const std::string& id : removals_.approve()) {
    computation_->rows().at(id).held = false;
    enqueue(id);
  }
  saved_at_ = {};
}

}  // namespace dmm::view
