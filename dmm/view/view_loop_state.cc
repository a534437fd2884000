// The part of the view loop that tells where it stands: what it left out, its state, its counts.

#include <fmt/format.h>

#include <set>
#include <utility>

#include "dmm/internal/parked_event.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/view_loop.h"

namespace dmm::view {

using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

/// Says that a document or a row was left out, and why. Each is said once.
void ViewLoop::refuse(const std::string& place, const Error& error) {
  std::string& said = refused_[place];
  if (said == error.message()) return;
  said = error.message();
  ++stats_.refused;
  streams_.log.warn("left out of the view", {{"view", name()},
                                             {"place", printable(place, 300)},
                                             {"code", std::string(error.code().id)},
                                             {"error", error.message()}});
  const std::string subject = fmt::format("view.{}.{}", name(), place);
  const internal::Refusal refusal{"view",
                                  printable(subject, 300),
                                  0,
                                  std::string(error.code().id),
                                  error.message(),
                                  unix_ms(internal::SystemClock::now())};
  put_refusal(place, {}, dump_json(nlohmann::json(refusal)),
              [&streams = streams_, refusal](const Result<Sequence>& stored) {
                if (stored.ok()) internal::tell_refused(streams, refusal, stored.value());
              });
}

/// What was left out is no longer so.
void ViewLoop::accept(const std::string& place) {
  if (refused_.empty() || refused_.erase(place) == 0) return;
  put_refusal(place, {{std::string(wire::kKvOperation), "DEL"}}, "",
              [](const Result<Sequence>&) {});
}

/// What an owner before left out and this one does not is no longer so.
void ViewLoop::forget_old_refusals() {
  std::set<std::string> present;
  for (const auto& [place, text] : refused_) present.insert(refusal_subject(place));
  std::vector<Sequence> old;
  transport::scan(*streams_.status,
                  streams_.names.status_subject(fmt::format("refused.view.view.{}.>", name())),
                  [&](const transport::Message& message) {
                    if (!present.contains(message.subject)) old.push_back(message.sequence);
                  });
  for (const Sequence sequence : old) {
    streams_.status->erase(sequence, [](const Result<bool>&) {});
  }
}

std::string ViewLoop::refusal_subject(const std::string& place) const {
  return streams_.names.status_subject(
      internal::refusal_key("view", fmt::format("view.{}.{}", name(), place)));
}

void ViewLoop::put_refusal(const std::string& place, transport::Headers headers, std::string value,
                           std::function<void(const Result<Sequence>&)> then) {
  streams_.status->publish({.subject = refusal_subject(place),
                            .headers = std::move(headers),
                            .payload = std::move(value)},
                           limits::publish_deadline, std::move(then));
}

// ---- where it stands

ViewInfo ViewLoop::present_state() const {
  ViewInfo state;
  state.name = name();
  state.type = view_.type;
  state.key = view_.key;
  state.pipeline = release_.hash;
  state.release = release_.number;
  state.rolled_out = rolled_out_;
  state.rollout_told = gate_.told_count();
  state.rollout_failing = gate_.failing_count();
  state.stopped = gate_.stopped();
  state.digest = fmt::format("{:016x}", computation_->rows().digest());
  state.epoch = lease_->epoch().value;
  state.loaded = telling_;
  state.rows = computation_->rows().size();
  state.notified = stats_.notified;
  state.removed = stats_.removed;
  state.refused = stats_.refused;
  state.stale = computation_->inputs().counts().stale;
  state.sending = sending_ + to_tell_.size();
  state.twice = computation_->rows().twice();
  state.without_key = computation_->rows().without_key();
  state.held = removals_.held().size();
  state.held_reason = removals_.reason();
  for (const std::string& id : removals_.held()) {
    if (state.held_some.size() == 10) break;
    state.held_some.push_back(id);
  }
  state.doubt = removals_.in_doubt();
  state.history = history_;
  state.snapshot_at = snapshot_at_;
  state.cold_because = cold_because_;
  state.inputs = computation_->inputs().infos();
  // Until everything is loaded and told nothing of it may become what the next owner trusts.
  if (!telling_ || removals_.in_doubt()) {
    for (ViewInputInfo& input : state.inputs) {
      input.baseline = baselines_.value(input.description, nlohmann::json());
    }
  }
  return state;
}

void ViewLoop::save_state(bool now) {
  if (saving_ || (!now && Clock::now() < saved_at_ + limits::view_state_interval)) return;
  saved_at_ = Clock::now();
  nlohmann::json state;
  try {
    known_state_ = present_state();
    state = *known_state_;
  } catch (const Error&) {
    return;  // a source does not answer: it is said when it does
  }
  std::string text = dump_json(state);
  if (text == saved_) return;
  saved_ = text;
  state["at"] = unix_ms(internal::SystemClock::now());
  saving_ = true;
  streams_.status->publish(
      {.subject = streams_.names.status_subject(state_key(name())), .payload = dump_json(state)},
      limits::publish_deadline, [this](const Result<Sequence>& result) {
        mailbox_.post([this, stored = result.ok()] {
          saving_ = false;
          if (!stored) saved_.clear();
        });
      });
}

void ViewLoop::publish_stats() {
  if (computation_) {
    const InputCounts& counts = computation_->inputs().counts();
    stats_.changes = counts.changes;
    stats_.unchanged = counts.unchanged;
    stats_.stale = counts.stale;
    stats_.expired = counts.expired;
    stats_.restored = counts.restored;
    stats_.input_rows = computation_->inputs().rows();
    stats_.rows = computation_->rows().size();
  }
  count_operators();
  stats_.held = removals_.held().size();
  stats_.snapshots = snapshots_written_;
  stats_.snapshots_failed = snapshots_failed_;
  stats_.sending = sending_ + to_tell_.size() + failed_.size();
  stats_.loaded = telling_;
  stats_.holds_lease = lease_ && lease_->held();
  const bool settled = telling_ && !rebuild_ && stats_.sending == 0 && missing_.empty() &&
                       !computation_->inputs().waiting();
  const std::lock_guard lock(published_mutex_);
  published_ = stats_;
  settled_at_ = settled ? std::optional(heard_before_) : std::nullopt;
}

}  // namespace dmm::view
