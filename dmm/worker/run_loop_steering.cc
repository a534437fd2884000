// The part of the run loop that follows what people set: policy, pauses, pace.

#include <fmt/format.h>

#include "dmm/internal/control_store.h"
#include "dmm/internal/policy.h"
#include "dmm/limits.h"
#include "dmm/worker/run_loop.h"

namespace dmm::worker {

using std::chrono::milliseconds;

void RunLoop::follow_steering() {
  const internal::InForce follows = internal::in_force(steering_.policy(), declared_, options_);
  const WorkOptions& options = follows.options;
  if (!follows.unsound.empty() && follows.unsound != unsound_) {
    streams_.log.error("the policy of a type cannot be used; what was in force stays",
                       {{"type", type_}, {"error", follows.unsound}});
  }
  const bool another = follows.unsound != unsound_;
  unsound_ = follows.unsound;
  if (another) said_in_force_.clear();
  if (pool_ && options.concurrency != options_.concurrency) pool_->limit(options.concurrency);
  options_ = options;
  follow_share();
  resync_.set(options_.resync);
  if (!steering_.paused() && was_paused_) failing_.clear();
  was_paused_ = steering_.paused() != nullptr;
  count_crashes();
  // What stands in line for a thread has not begun: it goes back.
  for (const auto& [key, item] : items_) {
    const bool stands = item->run && item->run->started.load() == Clock::time_point();
    if (stands && (was_paused_ || steering_.paused(key))) item->run->stop.request_stop();
  }
  for (auto held = held_.begin(); held != held_.end();) {
    if (steering_.paused(held->first)) {
      ++held;
      continue;
    }
    const ItemPtr item = held->second;
    held = held_.erase(held);
    enqueue(item);
  }
  say_in_force();
}

/// A rate is that of the type: each worker has as much of it as of the lanes.
void RunLoop::follow_share() {
  const double share = static_cast<double>(lanes_owned()) / limits::lanes;
  pace_.set(options_.rate * share, options_.identity_interval);
}

void RunLoop::say_in_force() {
  if (lanes_owned() == 0) return;  // those who work say it
  Policy in_force = internal::policy_of(options_);
  if (in_force == said_in_force_) return;
  streams_.status->publish(
      {.subject = streams_.names.status_subject(internal::work_state_key(type_)),
       .payload = internal::work_state_text(in_force, unsound_)},
      limits::publish_deadline, [](const Result<Sequence>&) {});
  said_in_force_ = std::move(in_force);
}

/// Begins what is ready, as far as pauses, slots and pace allow. Returns when pace allows more.
RunLoop::Clock::time_point RunLoop::begin_ready(Clock::time_point now) {
  if (!begins_ || !steering_.known() || steering_.paused() != nullptr) {
    return Clock::time_point::max();
  }
  if (const auto until = attend_alone(now)) return *until;
  while (!ready_.empty() && may_begin(*ready_.front())) {
    if (const auto left = pace_.wait(now); left.count() > 0) return now + left;
    begin_one(ready_.pop(), now);
  }
  return ready_.size(Turn::alone) > 0 && next_alone_ > now ? next_alone_ : Clock::time_point::max();
}

/// False if the identity has to wait still.
bool RunLoop::begin_one(const ItemPtr& item, Clock::time_point now) {
  ready_bytes_ -= item->token->news.size();
  if (steering_.paused(item->key)) {
    hold(item);
    return false;
  }
  if (const auto left = pace_.wait(item->key, now); left.count() > 0) {
    wait(item, left);
    return false;
  }
  pace_.begin(item->key, now);
  begin(item);
  return true;
}

/// What may take the worker down with it takes no other run along: it begins when the others have
/// ended, and none begins beside it. But a run that does not end, or a long one, must not keep
/// everything else from its turn, so all of that has its limits; and what is overdue hangs, so
/// nothing waits for it. Returns until when nothing else may begin; nothing: it may.
std::optional<RunLoop::Clock::time_point> RunLoop::attend_alone(Clock::time_point now) {
  if (alone_) {
    const bool runs = alone_->state == State::reading || alone_->state == State::running;
    const auto until = alone_since_ + limits::alone_max;
    const bool hangs = alone_->run && alone_->run->timed_out;
    if (runs && !hangs && now < until) return until;
    if (runs) {
      // Not earlier, even if it hangs: with a short timeout it would never be found.
      later(until - now, [this, item = alone_, round = alone_->round] {
        if (round == item->round && item->run && held(*item)) trust_again(item);
      });
    }
    // Until then an end that the next one brought about would be put down to this one as well.
    next_alone_ = runs ? std::max(until, now + (now - alone_since_)) : now + (now - alone_since_);
    alone_.reset();
  }
  if (ready_.size(Turn::alone) == 0) {
    wait_alone_till_ = {};
    return std::nullopt;
  }
  if (now < next_alone_ || !held(*ready_.front_alone())) return std::nullopt;
  if (wait_alone_till_ == Clock::time_point()) wait_alone_till_ = now + limits::alone_wait;
  if (busy_ > overdue_ && now < wait_alone_till_) return wait_alone_till_;
  if (const auto left = pace_.wait(now); left.count() > 0) return now + left;
  wait_alone_till_ = {};
  const ItemPtr item = ready_.pop_alone();
  if (!begin_one(item, now)) return std::nullopt;
  alone_ = item;
  alone_since_ = now;
  return now + limits::alone_max;
}

/// It ran alone for long, and the worker lives: if one ends while it runs on, that is not its
/// doing.
void RunLoop::trust_again(const ItemPtr& item) {
  item->crashes = 0;
  item->named = 0;
  if (!std::exchange(item->marked, false)) return;
  internal::Status status = status_of(*item, "failing", code::worker_crashed.id,
                                      "workers ended while they ran it; it is running now");
  if (const auto* before = statuses_.find(item->key)) status.failures = before->failures;
  statuses_.put(item->key, std::move(status));
}

/// Puts an identity aside until it is not paused any more.
void RunLoop::hold(const ItemPtr& item) {
  item->state = State::waiting;
  item->token->news = std::string();
  item->loaded = false;
  held_.insert_or_assign(item->key, item);
}

/// Counts how the first run of some news ended, and pauses the type when too many fail.
void RunLoop::note_first_run(const Item& item, bool failed) {
  if (item.attempts > 0) return;
  failing_.note(failed);
  if (failed) pause_if_failing();
}

/// Counts the runs that ended their worker. Those of before somebody resumed the type do not count:
/// whoever did that knew of them.
void RunLoop::count_crashes() {
  if (!steering_.known()) return;
  failing_.set_ends(toll_.ends(steering_.resumed()));
  if (failing_.ends() > 0) pause_if_failing();
}

void RunLoop::pause_if_failing() {
  if (!failing_.passes(options_.pause_at_failing) || steering_.paused() != nullptr) return;
  std::string reason = fmt::format("{} of the last {} first runs failed, more than {} %",
                                   failing_.failed(), failing_.count(), options_.pause_at_failing);
  if (failing_.ends() > 0) {
    reason += fmt::format("; with {} of them their worker ended", failing_.ends());
  }
  streams_.log.error("the type is paused: too many runs fail",
                     {{"type", type_}, {"reason", reason}});
  steering_.pause(reason);
  was_paused_ = true;
}

}  // namespace dmm::worker
