// The way of an identity through the run loop: from its token to the deletion of the token.

#include <fmt/format.h>

#include <algorithm>

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

bool of_another_view(std::string_view entry, std::string_view token) {
  return !entry.empty() && !token.empty() && wire::view_of(entry) != wire::view_of(token);
}

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

template <class Task>
auto RunLoop::in_tenure(Task task) {
  return [this, tenure = tenure_, task = std::move(task)](auto&& result) {
    using Value = std::decay_t<decltype(result)>;
    auto shared = std::make_shared<Value>(std::forward<decltype(result)>(result));
    mailbox_.post([this, tenure, task, shared] {
      if (tenure == tenure_) task(std::move(*shared));
    });
  };
}

template <class Task>
auto RunLoop::in_round(const ItemPtr& item, Task task) {
  return in_tenure([item, round = item->round, task = std::move(task)](auto&& result) {
    if (round == item->round) task(std::forward<decltype(result)>(result));
  });
}

void RunLoop::take_token(transport::Message message) {
  ++stats_.tokens;
  const std::string subject = message.subject;
  const Sequence sequence = message.sequence;
  Result<Token> read = read_token(std::move(message));
  if (!read.ok()) {
    ++stats_.refused;
    return refuse(subject, sequence, read.error());
  }
  Token token = std::move(read).value();
  token.inherited = !caught_up_;
  ItemPtr& slot = items_[token.key];
  if (!slot) {
    slot = std::make_shared<Item>();
    slot->key = token.key;
  }
  const ItemPtr item = slot;
  if (token.sequence <= item->newest) return;
  item->newest = token.sequence;
  if (item->token && item->state != State::waiting && item->state != State::parked) {
    ++stats_.coalesced;
  }
  if (item->state == State::ready) {
    ready_bytes_ -= item->token->news.size();
    ready_bytes_ += token.news.size();
  }
  item->token = std::move(token);
  item->loaded = true;
  switch (item->state) {
    case State::fresh:
      return restore(item);
    case State::waiting:
    case State::parked:
      // News beat backoff, and are worth a new beginning.
      item->attempts = 0;
      item->crashes = 0;
      return restore(item);
    case State::ready:
    case State::reading:
    case State::running:
    case State::storing:
      return;
  }
}

/// A token that cannot be read is parked: under its identity if its subject names one, else under
/// its subject.
void RunLoop::refuse(const std::string& subject, Sequence sequence, const Error& error) {
  const auto parts = wire::split_token(subject);
  const auto id = parts ? decode_id(parts->id) : std::nullopt;
  const bool known = id && &error.code() != &code::wrong_lane;
  if (!known) return statuses_.refuse(subject, sequence, error);
  const Identity identity{std::string(parts->type), *id};
  ItemPtr& item = items_[key_of(identity)];
  if (!item) item = std::make_shared<Item>();
  item->key = key_of(identity);
  if (sequence <= item->newest) return;
  item->newest = sequence;
  // What is under way finishes; then the next owner, or better news, come upon this again.
  if (item->state != State::fresh && item->state != State::waiting &&
      item->state != State::parked) {
    return statuses_.refuse(subject, sequence, error);
  }
  cancel(item->timer);
  report_waits_.forget(item->key);
  item->current = Token();
  item->current.identity = identity;
  item->current.key = item->key;
  item->current.sequence = sequence;
  item->token.reset();
  item->attempts = 0;
  park(item, error.code().id, error.message());
}

/// Makes an identity ready, unless its token was tried before and has to wait, or is dated.
void RunLoop::restore(const ItemPtr& item) {
  report_waits_.forget(item->key);
  const Token& token = *item->token;
  const auto now = system_clock::now();
  if (const internal::Status* status = statuses_.find(item->key);
      status != nullptr && status->token == token.sequence.value && status->created == created_) {
    item->attempts = status->attempts;
    item->crashes = status->crashes;
    // Whether the device came online meanwhile nobody has seen: trying tells.
    if (status->phase == "offline") return enqueue(item);
    if (status->phase == "parked") {
      item->state = State::parked;
      item->token->news.clear();
      item->loaded = false;
      return;
    }
    const milliseconds left(status->next_retry_at - unix_ms(now));
    if (left.count() > 0) return wait(item, std::min(left, options_.backoff_max));
  }
  if (token.not_before > now) return wait(item, token.not_before - now);
  enqueue(item);
}

void RunLoop::enqueue(const ItemPtr& item) {
  report_waits_.forget(item->key);
  cancel(item->timer);
  item->state = State::ready;
  ready_bytes_ += item->token->news.size();
  ready_.push_back(item);
}

void RunLoop::wait(const ItemPtr& item, Clock::duration delay) {
  item->state = State::waiting;
  // What waits does not hold its news in memory: they lie in the stream.
  if (!item->token->news.empty()) {
    item->token->news = std::string();
    item->loaded = false;
  }
  cancel(item->timer);
  item->timer = later(delay, [this, item] {
    item->timer.reset();
    enqueue(item);
  });
}

void RunLoop::begin(const ItemPtr& item) {
  ++busy_;
  ++item->round;
  alone_ = item->crashes > limits::crashes_shared ? item : nullptr;
  item->state = State::reading;
  item->entry_known = false;
  item->marked = false;
  item->rewritten = false;
  item->result.reset();
  item->current = std::move(*item->token);
  item->token.reset();
  if (!item->loaded) return load_token(item);
  begin_loaded(item);
}

void RunLoop::load_token(const ItemPtr& item) {
  streams_.work->last(
      streams_.names.token_subject(item->current.identity),
      in_round(item, [this, item](Result<std::optional<transport::Message>> found) {
        if (!found.ok()) {
          --busy_;
          return again_soon(item, kTroubleDelay);
        }
        if (!found.value()) {
          // Someone purged it: there is nothing left to do.
          --busy_;
          statuses_.clear(item->key);
          return leave(item);
        }
        Result<Token> token = read_token(std::move(*found.value()));
        if (!token.ok()) {
          --busy_;
          return leave(item);  // a newer one that cannot be read; the reader will refuse it
        }
        const bool inherited = item->current.inherited;
        if (token.value().sequence > item->current.sequence) item->attempts = 0;
        item->current = std::move(token).value();
        item->current.inherited = inherited;
        item->newest = std::max(item->newest, item->current.sequence);
        if (item->token && item->token->sequence <= item->current.sequence) item->token.reset();
        item->loaded = true;
        begin_loaded(item);
      }));
}

void RunLoop::begin_loaded(const ItemPtr& item) {
  const Token& token = item->current;
  const bool poke = token.news.empty();
  // A poke says "look again", so it does not trust a copy in memory, unless it is as old as that.
  if (!poke || token.inherited) {
    // Nor do news that were compared with a later entry: someone else wrote that one.
    const Entry* held = entries_.find(item->key);
    if (held != nullptr && held->revision >= token.entry) {
      item->entry = *held;
      item->entry_known = true;
    }
  }
  if (item->entry_known) return prepare(item);
  // Whole news do not depend on the entry, so the run begins first and the entry is read beside it;
  // an inherited token may have been done by the owner before, which only the entry tells.
  const bool independent = !poke && token.view.empty() && !token.inherited;
  if (independent) prepare(item);
  if (!independent || item->state == State::running) load_entry(item);
}

void RunLoop::load_entry(const ItemPtr& item) {
  streams_.cache->last(
      streams_.names.entry_subject(item->key),
      in_round(item, [this, item](Result<std::optional<transport::Message>> found) {
        if (item->entry_known) return;
        if (!found.ok()) {
          if (item->state == State::reading && give_back(item)) return;
          later(kTroubleDelay, [this, item, round = item->round] {
            if (round == item->round) load_entry(item);
          });
          return;
        }
        item->entry = Entry::from(std::move(found).value());
        item->entry_known = true;
        entries_.put(item->key, item->entry);
        if (item->state == State::reading) return prepare(item);
        if (item->state == State::storing && item->result) finish(item);
      }));
}

/// Nothing begins without the lease, nor at shutdown: the identity goes back to where it came from.
/// True if so. For an item that is being read.
bool RunLoop::give_back(const ItemPtr& item) {
  if (lease_->held() && !stopping_) return false;
  --busy_;
  ++item->round;
  put_back(item);
  return true;
}

void RunLoop::prepare(const ItemPtr& item) {
  if (give_back(item)) return;
  if (item->entry_known && item->entry.done &&
      item->entry.done->covers(created_, item->current.sequence)) {
    --busy_;
    erase_token(item->current.sequence);
    statuses_.clear(item->key);
    return leave(item);
  }
  if (item->entry_known && of_another_view(item->entry.view, item->current.view)) {
    --busy_;
    return park(item, code::entry_of_other_view.id,
                fmt::format("the entry belongs to view {}, the token to view {}",
                            printable(wire::view_of(item->entry.view)),
                            printable(wire::view_of(item->current.view))));
  }
  if (taken_over_ && item->current.inherited && !item->rewritten) return rewrite_entry(item);
  if (taken_over_ && item->current.inherited && !item->marked) return mark_run(item);
  dispatch(item);
}

/// The owner before ended without a word, perhaps because of this run. So before it is repeated the
/// status says that it is under way: should this worker end too, the next one knows and counts.
void RunLoop::mark_run(const ItemPtr& item) {
  item->marked = true;
  if (item->crashes >= limits::crashes_max) {
    --busy_;
    return park(item, code::worker_crashed.id,
                fmt::format("{} workers ended while they ran it", item->crashes));
  }
  internal::Status status;
  status.phase = "failing";
  status.attempts = item->attempts;
  status.error_code = code::worker_crashed.id;
  status.error = "a worker ended while it ran this identity, or it is running now";
  status.failed_at = unix_ms(system_clock::now());
  status.created = created_;
  status.token = item->current.sequence.value;
  status.crashes = item->crashes + 1;
  statuses_.put(item->key, std::move(status), [this, item, tenure = tenure_, round = item->round] {
    if (tenure == tenure_ && round == item->round) dispatch(item);
  });
}

/// Stores the entry as it is, so that a late write of the owner before is refused.
void RunLoop::rewrite_entry(const ItemPtr& item) {
  transport::Publication publication{
      .subject = streams_.names.entry_subject(item->key),
      .headers = {{std::string(wire::kEpoch), std::to_string(lease_->epoch().value)}},
      .payload = item->entry.value.value_or(""),
      .expected_last = item->entry.revision};
  if (item->entry.done) {
    publication.headers.emplace_back(wire::kDone, wire::format_done(*item->entry.done));
  }
  if (!item->entry.view.empty()) publication.headers.emplace_back(wire::kView, item->entry.view);
  if (!item->entry.value) publication.headers.emplace_back(wire::kKvOperation, "DEL");
  streams_.cache->publish(std::move(publication), limits::lease_ttl,
                          in_round(item, [this, item](Result<Sequence> result) {
                            entries_.drop(item->key);
                            if (!result.ok()) {
                              item->entry_known = false;
                              return load_entry(item);
                            }
                            item->rewritten = true;
                            item->entry.revision = result.value();
                            prepare(item);
                          }));
}

void RunLoop::dispatch(const ItemPtr& item) {
  if (give_back(item)) return;
  Token& token = item->current;
  auto run = std::make_shared<Run>();
  run->input.identity = token.identity;
  run->input.is_news = !token.news.empty();
  run->input.deleted = token.deleted;
  run->input.attempt = item->attempts + 1;
  run->input.epoch = lease_->epoch();
  if (token.news.empty()) {
    run->input.value = item->entry.value;
  } else if (!token.view.empty()) {
    const auto entry = parse_json(item->entry.value.value_or("{}"));
    const auto news = parse_json(token.news);
    run->input.value = entry.ok() && news.ok()
                           ? internal::lay_over(item->entry.value.value_or(""), token.news)
                           : token.news;
  } else {
    run->input.value = token.news;
  }
  item->run = run;
  item->state = State::running;
  ++stats_.runs;
  watch_deadline(item, run, options_.timeout);
  pool_->submit([this, item, run] {
    const auto begun = Clock::now();
    run->input.deadline = begun + options_.timeout;
    run->started = begun;
    run->result = run_once(materializer_, run->input, matters_, run->stop.get_token(), streams_.log,
                           streams_.downlink.get());
    run->took = Clock::now() - begun;
    mailbox_.post([this, item] { ran(item); });
  });
}

void RunLoop::watch_deadline(const ItemPtr& item, const std::shared_ptr<Run>& run,
                             Clock::duration left) {
  run->deadline = later(left, [this, item, run] {
    run->deadline.reset();
    // While it stood in line for a thread it used none of its time.
    const Clock::time_point started = run->started;
    const auto due = started == Clock::time_point() ? Clock::now() + options_.timeout
                                                    : started + options_.timeout;
    if (due > Clock::now()) return watch_deadline(item, run, due - Clock::now());
    overdue(item, run);
  });
}

void RunLoop::overdue(const ItemPtr& item, const std::shared_ptr<Run>& run) {
  run->timed_out = true;
  run->stop.request_stop();
  const std::string text = fmt::format("did not return within {} ms", options_.timeout.count());
  streams_.log.warn("materialize is overdue; it holds its slot until it returns",
                    {{"key", item->key}, {"error", text}});
  ++item->attempts;
  put_status(item, "failing", code::materialize_timed_out.id, text, milliseconds(0));
  --item->attempts;
}

void RunLoop::ran(const ItemPtr& item) {
  --busy_;
  item->crashes = 0;
  const std::shared_ptr<Run> run = std::move(item->run);
  item->run.reset();
  cancel(run->deadline);
  usual_run_ = (usual_run_ * 7 + run->took) / 8;
  if (item->abandoned) {
    item->abandoned = false;
    item->state = State::fresh;
    if (item->token) return restore(item);
    items_.erase(item->key);
    return;
  }
  item->state = State::storing;
  RunResult& result = run->result;
  if (!result.healed.empty()) {
    ++stats_.corrupt;
    streams_.log.warn("a cache entry could not be read and counts as missing",
                      {{"key", item->key},
                       {"code", std::string(code::corrupt_entry.id)},
                       {"error", result.healed}});
  }
  if (run->timed_out) {
    return fail(item, code::materialize_timed_out.id,
                fmt::format("did not return within {} ms", options_.timeout.count()));
  }
  switch (result.end) {
    case RunResult::End::refused:
      if (run->input.is_news) ++stats_.refused;
      return park(item, result.error_code, result.error);
    case RunResult::End::failed:
      if (run->cancelled) return put_back(item);
      return fail(item, result.error_code, result.error);
    case RunResult::End::succeeded:
      break;
  }
  item->result = std::move(result);
  if (item->entry_known) finish(item);
}

/// Stores what a run changed, if it changed anything.
void RunLoop::finish(const ItemPtr& item) {
  if (!lease_->held()) {
    suspended_.push_back(item);
    return;
  }
  RunResult& result = *item->result;
  const Entry& entry = item->entry;
  if (result.outcome.action() == Outcome::Action::park) {
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
  if (result.value == entry.value && claimed) return conclude(item);
  store(item, std::move(result.value));
}

/// value   none: the entry is removed.
void RunLoop::store(const ItemPtr& item, std::optional<std::string> value) {
  // News without a view leave an entry to the view that it belongs to.
  Entry next{Sequence{}, std::move(value), wire::Done{created_, item->current.sequence},
             item->current.view.empty() ? item->entry.view : item->current.view};
  transport::Publication publication{
      .subject = streams_.names.entry_subject(item->key),
      .headers = {{std::string(wire::kDone), wire::format_done(*next.done)},
                  {std::string(wire::kEpoch), std::to_string(lease_->epoch().value)}},
      .payload = next.value.value_or(""),
      .expected_last = item->entry.revision,
      .urgent = storing_ < kUrgentWrites};
  if (!next.value) {
    next.view.clear();
    publication.headers.emplace_back(wire::kKvOperation, "DEL");
  }
  if (!next.view.empty()) publication.headers.emplace_back(wire::kView, next.view);
  ++storing_;
  streams_.cache->publish(
      std::move(publication), limits::publish_deadline,
      in_tenure([this, item, next = std::move(next)](const Result<Sequence>& result) {
        stored(item, next, result);
      }));
}

void RunLoop::stored(const ItemPtr& item, Entry entry, const Result<Sequence>& result) {
  --storing_;
  if (!result.ok()) {
    entries_.drop(item->key);
    if (result.error().kind() == Kind::conflict) {
      // Someone else wrote the entry: this result was made from what is no longer so.
      ++stats_.conflicts;
      return again_soon(item, kConflictDelay);
    }
    if (result.error().kind() == Kind::invalid) {
      return park(item, result.error().code().id, result.error().message());
    }
    streams_.log.warn("a cache entry could not be written",
                      {{"key", item->key}, {"error", result.error().what()}});
    return again_soon(item, kTroubleDelay);
  }
  ++stats_.stored;
  entry.revision = result.value();
  item->entry = entry;
  entries_.put(item->key, std::move(entry));
  conclude(item);
}

void RunLoop::conclude(const ItemPtr& item) {
  ++stats_.succeeded;
  item->attempts = 0;
  statuses_.clear(item->key);
  if (item->result->outcome.action() == Outcome::Action::requeue) return requeue(item);
  erase_token(item->current.sequence);
  leave(item);
}

/// Replaces the token by one that carries nothing and is dated; a newer one is left alone.
void RunLoop::requeue(const ItemPtr& item) {
  const auto due = system_clock::now() + item->result->outcome.delay();
  transport::Publication publication{
      .subject = streams_.names.token_subject(item->current.identity),
      .headers = {{std::string(wire::kNotBefore), std::to_string(unix_ms(due))}},
      .expected_last = item->current.sequence};
  // What is being torn down stays so.
  if (item->current.deleted) publication.headers.emplace_back(wire::kDeleted, "1");
  streams_.work->publish(std::move(publication), limits::publish_deadline,
                         in_round(item, [this, item](const Result<Sequence>& result) {
                           if (!result.ok() && result.error().kind() != Kind::conflict) {
                             later(kTroubleDelay, [this, item, round = item->round] {
                               if (round == item->round) requeue(item);
                             });
                             return;
                           }
                           leave(item);
                         }));
}

/// The device is waited for: its next report makes the identity ready, or else time does.
void RunLoop::wait_for_report(const ItemPtr& item) {
  if (item->token) return leave(item);
  const RunResult result = std::move(*item->result);
  item->result.reset();
  const Outcome& outcome = result.outcome;
  const std::string device = encode_id(outcome.device());
  const auto most = options_.offline_retry.count();
  const milliseconds delay(
      std::uniform_int_distribution<milliseconds::rep>(most - most / 4, most + most / 4)(random_));
  const auto now = system_clock::now();
  internal::Status status;
  status.phase = "offline";
  status.attempts = item->attempts;
  status.error_code = code::device_offline.id;
  status.error = fmt::format("waits for the next report of {} {}", outcome.kind(),
                             printable(outcome.device(), 300));
  status.failed_at = unix_ms(now);
  status.next_retry_at = unix_ms(now + delay);
  status.created = created_;
  status.token = item->current.sequence.value;
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
  if (item->token) {
    item->state = State::fresh;
    return restore(item);
  }
  items_.erase(item->key);
}

void RunLoop::fail(const ItemPtr& item, std::string_view error_code, const std::string& error) {
  ++stats_.failed;
  ++item->attempts;
  streams_.log.info("materialize failed", {{"key", item->key},
                                           {"attempt", item->attempts},
                                           {"code", std::string(error_code)},
                                           {"error", error}});
  if (item->token) {
    item->attempts = 0;
    return leave(item);
  }
  if (options_.attempts_max > 0 && item->attempts >= options_.attempts_max) {
    return park(item, code::attempts_used_up.id,
                fmt::format("{} attempts failed, the last one with {}: {}", item->attempts,
                            error_code, error));
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
  if (item->token) {
    item->attempts = 0;
    return leave(item);
  }
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
  const auto now = system_clock::now();
  statuses_.put(item->key,
                internal::Status{std::string(phase), item->attempts, std::string(error_code), error,
                                 unix_ms(now), retry_in.count() > 0 ? unix_ms(now + retry_in) : 0,
                                 created_, item->current.sequence.value, 0});
}

/// The run does not count: the token waits a little and is begun again.
void RunLoop::again_soon(const ItemPtr& item, milliseconds delay) {
  if (!item->token) item->token = std::move(item->current);
  wait(item, delay);
}

void RunLoop::put_back(const ItemPtr& item) {
  if (!item->token) item->token = std::move(item->current);
  enqueue(item);
}

}  // namespace dmm::worker
