// The way of an identity through the run loop: from the end of its run to the deletion of its
// token.

#include <fmt/format.h>

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/worker/backoff.h"
#include "dmm/worker/run_loop.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

/// How long after a refused write the identity is tried again.
constexpr milliseconds kConflictDelay(20);
/// Fewer writes than this under way: each leaves at once. More: they are gathered.
constexpr std::size_t kUrgentWrites = 4;

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

void RunLoop::ran(const ItemPtr& item) {
  --busy_;
  item->crashes = 0;
  item->named = 0;
  const std::shared_ptr<Run> run = std::move(item->run);
  item->run.reset();
  cancel(run->deadline);
  if (run->stop.stop_requested()) run_slots_->ended(run.get());
  if (run->timed_out) --overdue_;
  usual_run_ = (usual_run_ * 7 + run->took) / 8;
  run->cancelled ? void(++stats_.cancelled) : stats_.run_times.add(run->took);
  if (item->abandoned) return ended_abandoned(item);
  item->state = State::storing;
  RunResult& result = run->result;
  // Another owner may be at work, and say other things of this identity by now.
  const bool succeeded = result.end == RunResult::End::succeeded && !run->timed_out;
  if (!succeeded && !held(*item)) return put_back(item);
  if (!result.healed.empty()) {
    ++stats_.corrupt;
    streams_.log.warn("a cache entry could not be read and counts as missing",
                      {{"key", item->key},
                       {"code", std::string(code::corrupt_entry.id)},
                       {"error", result.healed}});
  }
  if (run->timed_out) {
    ++stats_.timed_out;
    return fail(item, code::materialize_timed_out.id,
                fmt::format("did not return within {} ms", run->timeout.count()));
  }
  switch (result.end) {
    case RunResult::End::refused:
      if (run->input.is_news) ++stats_.refused;
      note_first_run(*item, true);
      ++stats_.gave_up;
      return park(item, result.error_code, result.error);
    case RunResult::End::failed:
      if (run->cancelled) return put_back(item);
      return fail(item, result.error_code, result.error);
    case RunResult::End::succeeded:
      break;
  }
  item->result = std::move(result);
  if (!item->entry_known) return;
  if (item->connection == streams_.transport->reconnects() && item->losses == losses_known()) {
    return finish(item);
  }
  entries_.drop(item->key);  // the server may have come back without it
  // Then it is still the entry of the view that it belonged to when the run began.
  if (item->current.view.empty()) item->current.view = item->entry.view;
  item->entry_known = false;
  load_entry(item);
}

/// Stores what a run changed, if it changed anything.
void RunLoop::finish(const ItemPtr& item) {
  if (!held(*item)) {
    suspended_.push_back(item);
    return;
  }
  RunResult& result = *item->result;
  const Entry& entry = item->entry;
  // The run may have begun before its entry was read.
  if (!entry.newer.empty()) return park(item, code::newer_format.id, entry.newer);
  if (result.outcome.action() == Outcome::Action::park) {
    note_first_run(*item, true);
    ++stats_.gave_up;
    return park(item, code::parked_by_outcome.id, result.outcome.reason());
  }
  if (result.outcome.action() == Outcome::Action::wait) return wait_for_report(item);
  const bool forget = result.outcome.action() == Outcome::Action::forget ||
                      (result.outcome.action() == Outcome::Action::done && item->current.deleted);
  if (forget) {
    if (entry.value) return store(item, std::nullopt);
    return conclude(item);
  }
  const std::string& view = item->current.view;
  const bool claimed = view.empty() || wire::view_of(view) == wire::view_of(entry.view);
  // News that are to run again leave their token, so the entry has to be there: a write shows it.
  const bool last_copy =
      result.outcome.action() == Outcome::Action::requeue && !item->current.news.empty();
  if (result.value == entry.value && claimed && !last_copy) return conclude(item);
  store(item, std::move(result.value));
}

/// value   none: the entry is removed.
void RunLoop::store(const ItemPtr& item, std::optional<std::string> value) {
  // Until its token is replaced, what is to run again is the next owner's to do.
  const bool again = item->result->outcome.action() == Outcome::Action::requeue;
  // News without a view leave an entry to the view that it belongs to.
  Entry next{Sequence{}, std::move(value),
             again ? done_before(item->current) : wire::Done{created_, item->current.sequence},
             item->current.view.empty() ? item->entry.view : item->current.view,
             item->current.stored_at};
  transport::Publication publication{
      .subject = streams_.names.entry_subject(item->key),
      .headers = {{std::string(wire::kDone), wire::format_done(*next.done)},
                  {std::string(wire::kEpoch), std::to_string(lanes_[item->lane].epoch.value)}},
      .payload = next.value.value_or(""),
      .expected_last = item->entry.revision,
      .urgent = writing_ < kUrgentWrites};
  if (!next.value) {
    next.view.clear();
    publication.headers.emplace_back(wire::kKvOperation, "DEL");
  }
  if (!next.view.empty()) publication.headers.emplace_back(wire::kView, next.view);
  write(item, *streams_.cache, std::move(publication), limits::publish_deadline,
        [this, item, next = std::move(next)](const Result<Sequence>& result) {
          stored(item, next, result);
        });
}

/// Publishes for an identity. The task has the answer, unless the identity was abandoned; but even
/// then nothing else is done for it before the answer is there, as the write may be done late.
void RunLoop::write(const ItemPtr& item, transport::Stream& stream,
                    transport::Publication publication, milliseconds deadline,
                    std::function<void(const Result<Sequence>&)> task) {
  item->writing = true;
  ++writing_;
  stream.publish(std::move(publication), deadline,
                 [this, item, task = std::move(task)](const Result<Sequence>& result) mutable {
                   mailbox_.post([this, item, task = std::move(task), result] {
                     --writing_;
                     item->writing = false;
                     if (item->abandoned) return ended_abandoned(item);
                     task(result);
                   });
                 });
}

void RunLoop::stored(const ItemPtr& item, Entry entry, const Result<Sequence>& result) {
  if (!result.ok()) {
    entries_.drop(item->key);
    if (result.error().kind() == Kind::conflict) {
      // Someone else wrote the entry: this result was made from what is no longer so.
      ++stats_.conflicts;
      return again_soon(item, kConflictDelay);
    }
    if (result.error().kind() == Kind::invalid) {
      note_first_run(*item, true);
      ++stats_.gave_up;
      return park(item, result.error().code().id, result.error().message());
    }
    streams_.log.warn("a cache entry could not be written",
                      {{"key", item->key}, {"error", result.error().what()}});
    item->perhaps_done = true;
    return again_soon(item, kTroubleDelay);
  }
  ++stats_.stored;
  internal::crash_point("stored an entry");
  entry.revision = result.value();
  item->entry = entry;
  entries_.put(item->key, std::move(entry));
  conclude(item);
}

void RunLoop::conclude(const ItemPtr& item) {
  ++stats_.succeeded;
  stats_.turnarounds.add(internal::SystemClock::now() - item->current.stored_at);
  note_first_run(*item, false);
  item->attempts = 0;
  statuses_.clear(item->key);
  if (item->result->outcome.action() == Outcome::Action::requeue) {
    ++stats_.postponed;
    return requeue(item);
  }
  erase_token(*item);
  leave(item);
}

/// Replaces the token by one that carries nothing and is dated; a newer one is left alone.
void RunLoop::requeue(const ItemPtr& item) {
  const milliseconds delay = item->result->outcome.delay();
  const auto due = internal::SystemClock::now() + delay;
  transport::Publication publication{
      .subject = streams_.names.token_subject(item->current.identity),
      .headers = {{std::string(wire::kNotBefore), std::to_string(unix_ms(due))},
                  {std::string(wire::kDelay), std::to_string(delay.count())}},
      .expected_last = item->current.sequence};
  // What is being torn down stays so.
  if (item->current.deleted) publication.headers.emplace_back(wire::kDeleted, "1");
  write(item, *streams_.work, std::move(publication), limits::publish_deadline,
        [this, item](const Result<Sequence>& result) {
          if (!result.ok() && result.error().kind() != Kind::conflict) {
            later(kTroubleDelay, [this, item, round = item->round] {
              if (round == item->round) requeue(item);
            });
            return;
          }
          internal::crash_point("put a run off");
          leave(item);
        });
}

/// The device is waited for: its next report makes the identity ready, or else time does.
void RunLoop::wait_for_report(const ItemPtr& item) {
  ++stats_.unreached;
  if (item->token) return leave(item);
  const RunResult result = std::move(*item->result);
  item->result.reset();
  const Outcome& outcome = result.outcome;
  const std::string device = encode_id(outcome.device());
  const auto most = options_.offline_retry.count();
  const milliseconds delay(
      std::uniform_int_distribution<milliseconds::rep>(most - most / 4, most + most / 4)(random_));
  const auto now = internal::SystemClock::now();
  internal::Status status =
      status_of(*item, "offline", code::device_offline.id,
                fmt::format("waits for the next report of {} {}", outcome.kind(),
                            printable(outcome.device(), 300)));
  if (const auto* before = statuses_.find(item->key)) status.failures = before->failures;
  status.next_retry_at = unix_ms(now + delay);
  status.waits_for = fmt::format("{}.{}", outcome.kind(), device);
  statuses_.put(item->key, std::move(status));
  item->token = std::move(item->current);
  item->loaded = true;
  wait(item, delay);
  report_waits_.add(item->key, outcome.kind(), device, result.reported);
}

void RunLoop::heard_of_device(const std::string& key) {
  const auto found = items_.find(key);
  if (found != items_.end() && found->second->state == State::waiting) enqueue(found->second);
}

/// The present token is through: on to the next one, or forget the identity.
void RunLoop::leave(const ItemPtr& item) {
  ++item->round;
  item->current = Token();
  item->entry = Entry();
  item->result.reset();
  item->perhaps_done = false;
  item->state = State::fresh;
  begin_anew(*item);
  if (item->token) return restore(item);
  items_.erase(item->key);
}

void RunLoop::fail(const ItemPtr& item, std::string_view error_code, const std::string& error) {
  ++stats_.failed;
  note_first_run(*item, true);
  ++item->attempts;
  streams_.log.info("materialize failed", {{"key", item->key},
                                           {"attempt", item->attempts},
                                           {"code", std::string(error_code)},
                                           {"error", error}});
  if (item->token) return leave(item);
  if (options_.attempts_max > 0 && item->attempts >= options_.attempts_max) {
    return park(item, code::attempts_used_up.id,
                fmt::format("{} attempt{} failed, the last one with {}: {}", item->attempts,
                            item->attempts == 1 ? "" : "s", error_code, error));
  }
  const milliseconds delay =
      backoff(item->attempts, options_.backoff_first, options_.backoff_max, random_);
  put_status(item, "failing", error_code, error, delay);
  item->token = std::move(item->current);
  item->loaded = true;
  wait(item, delay);
}

void RunLoop::park(const ItemPtr& item, std::string_view error_code, const std::string& error) {
  ++stats_.parked;
  if (item->token) return leave(item);
  internal::crash_point("parks an identity");
  streams_.log.warn("parked",
                    {{"key", item->key}, {"code", std::string(error_code)}, {"error", error}});
  put_status(item, "parked", error_code, error, milliseconds(0));
  item->token = std::move(item->current);
  item->token->news = std::string();
  item->loaded = false;
  item->state = State::parked;
}

void RunLoop::put_status(const ItemPtr& item, std::string_view phase, std::string_view error_code,
                         const std::string& error, milliseconds retry_in) {
  internal::Status status = status_of(*item, phase, error_code, error);
  if (retry_in.count() > 0) status.next_retry_at = status.failed_at + retry_in.count();
  internal::add_failure(status, statuses_.find(item->key));
  statuses_.put(item->key, std::move(status));
}

internal::Status RunLoop::status_of(const Item& item, std::string_view phase,
                                    std::string_view error_code, const std::string& error) const {
  internal::Status status;
  status.phase = phase;
  status.attempts = item.attempts;
  status.error_code = error_code;
  status.error = error;
  status.failed_at = unix_ms(internal::SystemClock::now());
  status.created = created_;
  status.token = item.current.sequence.value;
  status.crashes = item.crashes;
  status.named = item.named;
  if (item.marked && item.run) {  // as mark_run() has it: it goes on
    ++status.crashes;
    status.charged = true;
  }
  return status;
}

/// The run does not count: the token waits a little and is begun again.
void RunLoop::again_soon(const ItemPtr& item, milliseconds delay) {
  if (item->token) begin_anew(*item);
  if (!item->token) item->token = std::move(item->current);
  wait(item, delay);
}

void RunLoop::put_back(const ItemPtr& item) {
  if (item->token) begin_anew(*item);
  if (!item->token) item->token = std::move(item->current);
  enqueue(item);
}

}  // namespace dmm::worker
