// The way of an identity through the run loop: from its token to its run.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "dmm/internal/done.h"
#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/worker/backoff.h"
#include "dmm/worker/run_loop.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

bool of_another_view(std::string_view entry, std::string_view token) {
  return !entry.empty() && !token.empty() && wire::view_of(entry) != wire::view_of(token);
}

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

/// The lane that a token's subject names. What names none is refused by the owner of the first one.
std::uint32_t lane_named(std::string_view subject) {
  const auto parts = wire::split_token(subject);
  std::uint32_t lane = 0;
  if (!parts) return 0;
  const char* end = parts->lane.data() + parts->lane.size();
  const auto read = std::from_chars(parts->lane.data(), end, lane);
  return read.ec == std::errc() && read.ptr == end && lane < limits::lanes ? lane : 0;
}

}  // namespace

/// fresh   it came while a backlog is worked through.
void RunLoop::take_token(transport::Message message, bool fresh) {
  const Lane& lane = lanes_[lane_named(message.subject)];
  if (!lane.ours || lane.leaving) return;  // another worker's
  ++stats_.tokens;
  const std::string subject = message.subject;
  const Sequence sequence = message.sequence;
  Result<Token> read = read_token(std::move(message));
  if (!read.ok()) {
    ++stats_.refused;
    return refuse(subject, sequence, read.error());
  }
  Token token = std::move(read).value();
  const ItemPtr item = item_of(token.key);
  // News in place of an inherited token: who worked on that one may still write all the same.
  token.inherited = !lane.caught_up || (item->token && item->token->inherited);
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
  item->backlog = fresh_ && !fresh && !lane.caught_up;
  switch (item->state) {
    case State::fresh:
      return restore(item);
    case State::waiting:
    case State::parked:
      begin_anew(*item);  // news beat backoff
      return restore(item);
    case State::ready:
      begin_anew(*item);
      return;
    case State::reading:
    case State::running:
    case State::storing:
      return;
  }
}

RunLoop::ItemPtr RunLoop::item_of(const std::string& key) {
  ItemPtr& slot = items_[key];
  if (!slot) {
    slot = std::make_shared<Item>();
    slot->key = key;
    slot->lane = lane_of_key(key);
  }
  return slot;
}

/// A token that cannot be read is parked: under its identity if its subject names one, else under
/// its subject.
void RunLoop::refuse(const std::string& subject, Sequence sequence, const Error& error) {
  const auto parts = wire::split_token(subject);
  const auto id = parts ? decode_id(parts->id) : std::nullopt;
  const bool known = id && &error.code() != &code::wrong_lane;
  if (!known) return statuses_.refuse(subject, sequence, error);
  const Identity identity{std::string(parts->type), *id};
  const ItemPtr item = item_of(key_of(identity));
  if (sequence <= item->newest) return;
  item->newest = sequence;
  // What is under way finishes; then the next owner, or better news, come upon this again.
  if (item->state != State::fresh && item->state != State::waiting &&
      item->state != State::parked) {
    return statuses_.refuse(subject, sequence, error);
  }
  cancel(item->timer);
  report_waits_.forget(item->key);
  held_.erase(item->key);
  item->current = Token();
  item->current.identity = identity;
  item->current.key = item->key;
  item->current.sequence = sequence;
  item->token.reset();
  begin_anew(*item);
  park(item, error.code().id, error.message());
}

/// Makes an identity ready, unless its token was tried before and has to wait, or is dated.
void RunLoop::restore(const ItemPtr& item) {
  report_waits_.forget(item->key);
  held_.erase(item->key);
  const Token& token = *item->token;
  const auto now = internal::SystemClock::now();
  system_clock::duration left{};
  if (token.not_before > now) {
    left = std::min<system_clock::duration>(token.not_before - now, token.delay_max);
  }
  blame(item);
  if (tried(*item)) {
    const internal::Status* status = statuses_.find(item->key);
    item->attempts = status->attempts;
    // Whether the device came online meanwhile nobody has seen: trying tells.
    if (status->phase == "offline") return enqueue(item);
    if (status->phase == "parked") {
      item->state = State::parked;
      item->token->news.clear();
      item->loaded = false;
      return;
    }
  }
  if (tried(*item) || waits_behind_end(*item)) {
    const milliseconds retry_in(statuses_.find(item->key)->next_retry_at - unix_ms(now));
    left = std::max<system_clock::duration>(left, std::min(retry_in, options_.backoff_max));
  }
  if (left.count() > 0) return wait(item, left);
  enqueue(item);
}

/// How a run is called in the last words of its process.
std::string RunLoop::run_name(const std::string& key) const {
  return fmt::format("{} {}", streams_.names.ns(), key);
}

/// True if the status tells of this token.
bool RunLoop::tried(const Item& item) const {
  const internal::Status* status = statuses_.find(item.key);
  return status != nullptr && status->token == item.token->sequence.value &&
         status->created == created_;
}

/// News beat the wait behind a failure, but not that behind an end of a worker: with news that come
/// again and again there would be one end after the other, and none the fifth. True if the status
/// tells of such an end of earlier news, and nothing ran since.
bool RunLoop::waits_behind_end(const Item& item) const {
  const internal::Status* status = statuses_.find(item.key);
  return status != nullptr && status->named > 0 && status->crashes < limits::crashes_max &&
         !status->charged && status->phase == "failing" &&
         status->error_code == code::worker_crashed.id && status->created == created_ &&
         status->token < item.token->sequence.value;
}

/// News are worth a new beginning; but what was put down to an identity stays until a run returns,
/// or the last end that is allowed.
void RunLoop::begin_anew(Item& item) {
  item.attempts = 0;
  if (item.named > 0 && item.crashes < limits::crashes_max) return;
  item.crashes = 0;
  item.named = 0;
  item.crash_signal.clear();
}

/// Counts the crashes of an identity. Its status was charged with the worker before, as those of
/// all that this one may have run. If it said in its last words which run was its end, that is one
/// more for that identity, on whatever news, and all others did no harm.
void RunLoop::blame(const ItemPtr& item) {
  Lane& lane = lanes_[item->lane];
  const internal::Status* found = statuses_.find(item->key);
  const bool same_news = tried(*item) || waits_behind_end(*item);
  item->crashes = same_news ? found->crashes : 0;
  item->named = same_news ? found->named : 0;
  item->crash_signal.clear();
  if (!item->token->inherited || lane.last_words.run.empty()) return;
  const bool guilty = !lane.blamed && lane.last_words.run == run_name(item->key);
  const bool charged = found != nullptr && found->charged;
  if (!guilty && !(same_news && charged)) return;
  internal::Status status = found != nullptr ? *found : internal::Status();
  if (charged) status.crashes = std::max(status.crashes - 1, 0);
  status.charged = false;
  if (guilty) {
    lane.blamed = true;
    leases_.note_heard(item->lane);
    if (!same_news) status.attempts = 0;
    status.phase = "failing";
    status.error_code = code::worker_crashed.id;
    status.error = fmt::format("the run ended its worker by {}", lane.last_words.signal);
    status.failed_at = unix_ms(internal::SystemClock::now());
    status.created = created_;
    status.token = item->token->sequence.value;
    ++status.crashes;
    ++status.named;
    status.next_retry_at = 0;
    if (status.crashes < limits::crashes_max) {
      status.next_retry_at = status.failed_at + crash_backoff(status.crashes).count();
    }
    item->crash_signal = lane.last_words.signal;
    streams_.log.warn(
        "a run ended its worker",
        {{"key", item->key}, {"signal", item->crash_signal}, {"crashes", status.crashes}});
  }
  item->crashes = status.crashes;
  item->named = status.named;
  // Whoever has the lane next does not hear those words.
  statuses_.put(item->key, std::move(status));
}

/// An end of a worker costs others than its identity, so that waits longer than behind a failure,
/// and never just a moment: there is time for the others, and whoever starts workers again sees no
/// storm of ends.
milliseconds RunLoop::crash_backoff(int crashes) {
  const milliseconds first = options_.backoff_first;
  return std::min(options_.backoff_max, longest_backoff(crashes, first, options_.backoff_max) +
                                            backoff(crashes, first, options_.backoff_max, random_));
}

void RunLoop::enqueue(const ItemPtr& item) {
  report_waits_.forget(item->key);
  cancel(item->timer);
  if (lanes_[item->lane].leaving) {
    item->state = State::fresh;
    items_.erase(item->key);
    return;
  }
  item->state = State::ready;
  ready_bytes_ += item->token->news.size();
  // Who is known to be guilty need not be found: its next crash will be put down to it, too.
  const bool suspected = item->crashes - item->named > limits::crashes_shared;
  ready_.push(item, suspected            ? Turn::alone
                    : item->attempts > 0 ? Turn::retrying
                    : item->backlog      ? Turn::backlog
                                         : Turn::fresh);
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
        if (token.value().sequence > item->current.sequence) begin_anew(*item);
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
    // Who tells all again because of a loss may be faster than the owner's next look.
    follow_losses();
    // Nor do news that were compared with a later entry: someone else wrote that one. Nor those of
    // someone who knows of a loss that was not noticed here yet.
    const Entry* held = entries_.find(item->key);
    const bool aware = losses_.value_or(0) >= token.losses;
    if (held != nullptr && aware && held->revision >= token.entry) {
      item->entry = *held;
      item->entry_known = true;
      item->connection = reconnects_;
      item->losses = losses_;
    }
  }
  if (item->entry_known) return prepare(item);
  // Whole news do not depend on the entry, so the run begins first and the entry is read beside it;
  // an inherited token may have been done by the owner before, and one whose result could not be
  // stored for certain by this one, which only the entry tells.
  const bool independent = !poke && token.view.empty() && !token.inherited && !item->perhaps_done;
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
        item->connection = streams_.transport->reconnects();
        item->losses = losses_known();
        entries_.put(item->key, item->entry);
        if (item->state == State::reading) return prepare(item);
        if (item->state == State::storing && item->result) finish(item);
      }));
}

/// Nothing begins without the lease, while it is paused, nor at shutdown: the identity goes back to
/// where it came from. True if so. For an item that is being read.
bool RunLoop::give_back(const ItemPtr& item) {
  const bool paused = steering_.paused() != nullptr || steering_.paused(item->key);
  if (held(*item) && !stopping_ && !paused) return false;
  --busy_;
  ++item->round;
  put_back(item);
  return true;
}

void RunLoop::prepare(const ItemPtr& item) {
  if (give_back(item)) return;
  if (item->entry_known && item->entry.done &&
      internal::is_done(*item->entry.done, created_, item->current.sequence,
                        item->current.stored_at, item->entry.stored_at)) {
    --busy_;
    erase_token(*item);
    statuses_.clear(item->key);
    return leave(item);
  }
  if (item->entry_known && !item->entry.newer.empty()) {
    --busy_;
    return park(item, code::newer_format.id, item->entry.newer);
  }
  if (item->entry_known && of_another_view(item->entry.view, item->current.view)) {
    --busy_;
    return park(item, code::entry_of_other_view.id,
                fmt::format("the entry belongs to view {}, the token to view {}",
                            printable(wire::view_of(item->entry.view)),
                            printable(wire::view_of(item->current.view))));
  }
  const bool taken_over = lanes_[item->lane].taken_over && item->current.inherited;
  if (taken_over && !item->rewritten) return rewrite_entry(item);
  if (taken_over && !item->marked) return mark_run(item);
  dispatch(item);
}

/// The owner before ended without a word, perhaps because of this run. So before it is repeated the
/// status says that it is under way: should this worker end too, the next one knows and counts.
void RunLoop::mark_run(const ItemPtr& item) {
  item->marked = true;
  // Whoever resumed the type knew of those before: a good release begins anew.
  const Sequence stored = statuses_.stored(item->key);
  if (stored && stored < steering_.resumed()) item->crashes = item->named = 0;
  if (item->crashes >= limits::crashes_max) {
    --busy_;
    std::string text = fmt::format("{} workers ended while they ran it", item->crashes);
    if (!item->crash_signal.empty()) text += fmt::format(", the last by {}", item->crash_signal);
    return park(item, code::worker_crashed.id, text);
  }
  internal::Status status =
      status_of(*item, "failing", code::worker_crashed.id,
                "a worker ended while it ran this identity, or it is running now");
  const internal::Status* before = statuses_.find(item->key);
  if (item->crashes > 0) {
    internal::add_failure(status, before);
  } else if (before != nullptr) {
    status.failures = before->failures;
  }
  status.crashes = item->crashes + 1;
  status.charged = true;
  statuses_.put(item->key, std::move(status), [this, item, tenure = tenure_, round = item->round] {
    if (tenure == tenure_ && round == item->round) dispatch(item);
  });
}

/// All that came before a token is done, and it is not.
wire::Done RunLoop::done_before(const Token& token) const {
  return {created_, Sequence{token.sequence.value - 1}};
}

/// Stores the entry as it is, so that a late write of the owner before is refused.
void RunLoop::rewrite_entry(const ItemPtr& item) {
  // Not more is done than before; and not the token, if what was said is of sequences that a crash
  // of the server gave a second time.
  std::optional<wire::Done> done = item->entry.done;
  if (done && done->covers(created_, item->current.sequence)) done = done_before(item->current);
  transport::Publication publication{
      .subject = streams_.names.entry_subject(item->key),
      .headers = {{std::string(wire::kEpoch), std::to_string(lanes_[item->lane].epoch.value)}},
      .payload = item->entry.value.value_or(""),
      .expected_last = item->entry.revision};
  if (done) publication.headers.emplace_back(wire::kDone, wire::format_done(*done));
  if (!item->entry.view.empty()) publication.headers.emplace_back(wire::kView, item->entry.view);
  if (!item->entry.value) publication.headers.emplace_back(wire::kKvOperation, "DEL");
  write(item, *streams_.cache, std::move(publication), limits::lease_ttl,
        [this, item](const Result<Sequence>& result) {
          entries_.drop(item->key);
          if (!result.ok()) {
            item->entry_known = false;
            return load_entry(item);
          }
          internal::crash_point("rewrote an entry");
          item->rewritten = true;
          item->entry.revision = result.value();
          prepare(item);
        });
}

void RunLoop::dispatch(const ItemPtr& item) {
  if (give_back(item)) return;
  Token& token = item->current;
  auto run = std::make_shared<Run>();
  run->lane = item->lane;
  run->input.identity = token.identity;
  run->input.is_news = !token.news.empty();
  run->input.deleted = token.deleted;
  run->input.attempt = item->attempts + 1;
  run->input.epoch = lanes_[item->lane].epoch;
  run->input.traceparent = token.traceparent;
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
  if (run->input.attempt > 1) ++stats_.retried;
  run->timeout = options_.timeout;
  watch_deadline(item, run, run->timeout);
  pool_->submit([this, item, run] {
    const auto begun = Clock::now();
    run->input.deadline = begun + run->timeout;
    run->started = begun;
    {
      const std::lock_guard lock(running_mutex_);
      running_.insert(run);
    }
    // It stood in line: meanwhile the lane may have been lost, or the process stopped.
    const bool may_run = leases_.held(run->lane, run->input.epoch) && !run->stop.stop_requested();
    if (may_run) {
      std::string name;
      std::optional<InRun> in_run;
      if (streams_.life_locks) in_run.emplace(name = run_name(item->key));
      run->result = run_once(materializer_, run->input, matters_, run->stop.get_token(),
                             streams_.log, streams_.downlink.get(), streams_.spans.get());
    }
    {
      const std::lock_guard lock(running_mutex_);
      running_.erase(run);
    }
    run->took = Clock::now() - begun;
    internal::crash_point("a run returned");
    mailbox_.post([this, item, run, may_run] {
      if (!may_run) run->cancelled = true;
      ran(item);
    });
  });
}

void RunLoop::watch_deadline(const ItemPtr& item, const std::shared_ptr<Run>& run,
                             Clock::duration left) {
  run->deadline = later(left, [this, item, run] {
    run->deadline.reset();
    // While it stood in line for a thread it used none of its time.
    const Clock::time_point started = run->started;
    const auto due =
        started == Clock::time_point() ? Clock::now() + run->timeout : started + run->timeout;
    if (due > Clock::now()) return watch_deadline(item, run, due - Clock::now());
    overdue(item, run);
  });
}

void RunLoop::overdue(const ItemPtr& item, const std::shared_ptr<Run>& run) {
  run->timed_out = true;
  ++overdue_;
  run->stop.request_stop();
  const std::string text = fmt::format("did not return within {} ms", run->timeout.count());
  run_slots_->told_to_stop(run.get());
  streams_.log.warn("materialize is overdue; it holds its slot until it returns",
                    {{"key", item->key}, {"error", text}});
  if (!held(*item)) return;
  ++item->attempts;
  put_status(item, "failing", code::materialize_timed_out.id, text, milliseconds(0));
  --item->attempts;
}

}  // namespace dmm::worker
