#include "dmm/worker/run_loop.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/worker/backoff.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

/// How long after a refused or unanswered write the identity is tried again.
constexpr milliseconds kConflictDelay(20);
constexpr milliseconds kTroubleDelay(500);
/// Fewer writes than this under way: each leaves at once. More: they are gathered.
constexpr std::size_t kUrgentWrites = 4;

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

void check_options(const WorkOptions& options) {
  require(options.concurrency >= 1 && options.concurrency <= 1'024, code::bad_option,
          "concurrency is not from 1 to 1024");
  require(options.timeout.count() > 0, code::bad_option, "the timeout is not positive");
  require(options.backoff_first.count() > 0 && options.backoff_max >= options.backoff_first,
          code::bad_option, "backoff_first is not positive or above backoff_max");
  require(options.attempts_max >= 0, code::bad_option, "attempts_max is negative");
  require(options.grace.count() >= 0, code::bad_option, "the grace time is negative");
}

}  // namespace

RunLoop::RunLoop(const internal::Streams& streams, Matters& matters, std::string type,
                 AnyMaterializer materializer, WorkOptions options)
    : streams_(streams),
      matters_(matters),
      type_(std::move(type)),
      materializer_(std::move(materializer)),
      options_(options),
      mailbox_([this] { return advance(); }),
      entries_(limits::entries_held_bytes_max),
      statuses_(streams, mailbox_),
      random_(std::random_device()()) {
  check_options(options_);
}

RunLoop::~RunLoop() = default;

WorkStats RunLoop::stats() const {
  const std::lock_guard lock(published_mutex_);
  return published_;
}

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

// ---- the reader's thread
// -------------------------------------------------------------------------

void RunLoop::on_message(transport::Message message) noexcept {
  bool first = false;
  {
    const std::lock_guard lock(arrived_mutex_);
    first = arrived_.empty();
    arrived_.push_back(std::move(message));
  }
  if (first) mailbox_.post([this] { take_arrived(); });
}

void RunLoop::on_caught_up() noexcept {
  mailbox_.post([this] {
    take_arrived();
    caught_up_ = true;
    // A status whose token is gone was left behind by a crash between two writes.
    statuses_.clear_unless([this](const std::string& key) { return items_.contains(key); });
  });
}

void RunLoop::on_history_lost(std::string reason) noexcept {
  // What was read before belongs to what is lost; what comes now must not be mixed with it.
  std::size_t dropped = 0;
  {
    const std::lock_guard lock(arrived_mutex_);
    dropped = arrived_.size();
    arrived_.clear();
  }
  mailbox_.post([this, dropped, reason = std::move(reason)] {
    streams_.log.error("the work stream lost its history: reading it from the start",
                       {{"type", type_}, {"reason", reason}});
    ++stats_.history_losses;
    consumed_ += dropped;
    reset();
    created_.clear();
    history_lost_ = true;  // asking for the new creation time blocks: the owner thread does it
    mailbox_.wake();
  });
}

// ---- the owner's loop
// ----------------------------------------------------------------------------

void RunLoop::work(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  pool_ = std::make_unique<RunPool>(options_.concurrency);
  lease_ = std::make_unique<Lease>(streams_, fmt::format("work.{}.all", type_),
                                   [this] { mailbox_.wake(); });
  while (!stop.stop_requested()) {
    const std::optional<Tenure> tenure = lease_->acquire(stop);
    if (!tenure) break;
    try {
      begin_tenure(*tenure);
    } catch (const Error& error) {
      if (error.kind() != Kind::retry && error.kind() != Kind::not_found) throw;
      streams_.log.warn("the work could not begin", {{"type", type_}, {"error", error.what()}});
      reader_.reset();
      continue;
    }
    while (!stop.stop_requested() && lease_->held()) turn(true);
    begins_ = false;
    if (!lease_->held()) {
      ++stats_.lease_losses;
      cancel_runs();
    }
    publish_stats();
  }
  finish_work();
}

void RunLoop::begin_tenure(const Tenure& tenure) {
  if (tenure.taken_over) taken_over_ = true;
  if (tenure.continued && reader_) {
    // Nobody else was there: what was begun goes on.
    std::vector<ItemPtr> finished;
    finished.swap(suspended_);
    for (const ItemPtr& item : finished) finish(item);
    return;
  }
  reader_.reset();
  reset();
  {
    const std::lock_guard lock(arrived_mutex_);
    arrived_.clear();
  }
  const transport::StreamState work = streams_.work->state();
  created_ = work.created;
  statuses_.load(type_);
  load_entries(work);
  reader_ = streams_.work->read({.filter = streams_.names.token_filter(type_), .after = {}}, *this);
  reader_->grant(2 * limits::read_batch);
}

/// Where there is much to do, reading all entries at once costs less than reading one for each run;
/// where there is little, the entries are read as they are needed: work in proportion to the
/// change.
void RunLoop::load_entries(const transport::StreamState& work) {
  constexpr std::uint64_t kMuch = 1'000;
  constexpr std::uint64_t kScanIsCheaper =
      8;  // a scanned entry costs about an eighth of a read one
  if (work.messages < kMuch) return;
  if (streams_.cache->state().messages > work.messages * kScanIsCheaper) return;
  entries_.set_complete();
  transport::scan(*streams_.cache, streams_.names.entry_filter(type_),
                  [this](transport::Message message) {
                    std::string key(streams_.names.entry_key(message.subject));
                    entries_.put(key, Entry::from(std::move(message)));
                  });
}

/// Forgets everything but the runs that are under way, whose results will be dropped.
void RunLoop::reset() {
  ++tenure_;
  caught_up_ = false;
  entries_.clear();
  ready_.clear();
  ready_bytes_ = 0;
  suspended_.clear();
  to_erase_.clear();
  alone_.reset();
  storing_ = 0;
  std::size_t running = 0;
  std::erase_if(items_, [&](auto& pair) {
    const ItemPtr& item = pair.second;
    if (!item->run) return true;
    ++running;
    item->abandoned = true;
    item->token.reset();
    item->newest = Sequence{};
    return false;
  });
  busy_ = running;
}

void RunLoop::turn(bool may_begin) {
  begins_ = may_begin;
  if (history_lost_) recover_history();
  auto until = advance();
  if (!may_begin) until = std::min(until, Clock::now() + milliseconds(20));
  mailbox_.run_until(until);
}

/// Goes on with whatever can go on. Returns when the owner has to look again at the latest.
RunLoop::Clock::time_point RunLoop::advance() {
  fire_timers();
  while (begins_ && !ready_.empty() && may_begin(*ready_.front())) {
    const ItemPtr item = std::move(ready_.front());
    ready_.pop_front();
    ready_bytes_ -= item->token->news.size();
    begin(item);
  }
  pump_erases();
  if (consumed_ > 0 && ready_.size() < limits::identities_ready_max &&
      ready_bytes_ < limits::ready_bytes_max && reader_) {
    reader_->grant(std::exchange(consumed_, 0));
  }
  publish_stats();
  const auto until = Clock::now() + std::chrono::seconds(1);
  return timers_.empty() ? until : std::min(until, timers_.begin()->first);
}

/// Until the new creation time is known nothing begins: it is part of what an entry says it came
/// from.
void RunLoop::recover_history() {
  begins_ = false;
  try {
    created_ = streams_.work->state().created;
    history_lost_ = false;
    begins_ = true;
  } catch (const Error& error) {
    streams_.log.warn("the state of the work stream is unknown", {{"error", error.what()}});
    later(kTroubleDelay, [this] { mailbox_.wake(); });
  }
}

bool RunLoop::may_begin(const Item& next) const {
  if (!lease_->held() || busy_ >= slots() || storing_ >= limits::publishes_in_flight_max ||
      to_erase_.size() >= limits::publishes_in_flight_max) {
    return false;
  }
  if (busy_ == 0) return true;
  // What may take the worker down with it takes no other run along.
  return !alone_ && next.crashes <= limits::crashes_shared;
}

/// How many identities may be on their way to or in a run. The pool has a thread for each run;
/// where runs are short, some more may stand in line, so that a thread need not wait for its next
/// run.
std::size_t RunLoop::slots() const {
  constexpr auto kShort = std::chrono::microseconds(500);
  constexpr std::size_t kAhead = 128;
  return options_.concurrency + (usual_run_ < kShort ? kAhead : 0);
}

void RunLoop::take_arrived() {
  std::vector<transport::Message> messages;
  {
    const std::lock_guard lock(arrived_mutex_);
    messages.swap(arrived_);
  }
  consumed_ += messages.size();
  for (transport::Message& message : messages) take_token(std::move(message));
}

void RunLoop::fire_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

RunLoop::Timers::iterator RunLoop::later(Clock::duration delay, std::function<void()> task) {
  return timers_.emplace(Clock::now() + delay, [this, tenure = tenure_, task = std::move(task)] {
    if (tenure == tenure_) task();
  });
}

void RunLoop::cancel(Timer& timer) {
  if (timer) timers_.erase(*timer);
  timer.reset();
}

void RunLoop::cancel_runs() {
  for (const auto& [key, item] : items_) {
    if (!item->run) continue;
    item->run->cancelled = true;
    item->run->stop.request_stop();
  }
}

bool RunLoop::quiet() const {
  return busy_ == 0 && storing_ == 0 && to_erase_.empty() && erasing_ == 0 &&
         statuses_.in_flight() == 0;
}

void RunLoop::finish_work() {
  const auto grace_ends = Clock::now() + options_.grace;
  while (!quiet() && Clock::now() < grace_ends && lease_->held()) turn(false);
  cancel_runs();
  // A handler that ignores its stop token is waited for: its thread cannot be taken from it.
  const auto writes_end = Clock::now() + limits::request_timeout;
  while (busy_ > 0 || (!quiet() && Clock::now() < writes_end)) turn(false);
  reader_.reset();
  pool_.reset();
  lease_->release();
  reset();
  timers_.clear();
  publish_stats();
}

void RunLoop::publish_stats() {
  stats_.running = std::min(busy_, options_.concurrency);
  stats_.ready = ready_.size() + busy_ - stats_.running;  // some stand in line at the pool
  stats_.retrying = statuses_.size();
  stats_.holds_lease = lease_ && lease_->held();
  const std::lock_guard lock(published_mutex_);
  published_ = stats_;
}

// ---- the way of an identity
// ----------------------------------------------------------------------

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

/// A token that cannot be read is parked: under its identity if its subject names one, else under its
/// subject.
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
  const Token& token = *item->token;
  const auto now = system_clock::now();
  if (const internal::Status* status = statuses_.find(item->key);
      status != nullptr && status->token == token.sequence.value && status->created == created_) {
    item->attempts = status->attempts;
    item->crashes = status->crashes;
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
      in_tenure([this, item](Result<std::optional<transport::Message>> found) {
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
    if (const Entry* held = entries_.find(item->key)) {
      item->entry = *held;
      item->entry_known = true;
    }
  }
  if (!item->entry_known) load_entry(item);
  // Whole news do not depend on the entry, so the run need not wait for it; an inherited token may
  // have been done by the owner before, which only the entry tells.
  if (item->entry_known || (!poke && !token.of_view && !token.inherited)) prepare(item);
}

void RunLoop::load_entry(const ItemPtr& item) {
  streams_.cache->last(streams_.names.entry_subject(item->key),
                       in_tenure([this, item](Result<std::optional<transport::Message>> found) {
                         if (!found.ok()) {
                           later(kTroubleDelay, [this, item] { load_entry(item); });
                           return;
                         }
                         item->entry = Entry::from(std::move(found).value());
                         item->entry_known = true;
                         entries_.put(item->key, item->entry);
                         if (item->state == State::reading) return prepare(item);
                         if (item->result) finish(item);
                       }));
}

void RunLoop::prepare(const ItemPtr& item) {
  if (item->entry_known && item->entry.done &&
      item->entry.done->covers(created_, item->current.sequence)) {
    --busy_;
    erase_token(item->current.sequence);
    statuses_.clear(item->key);
    return leave(item);
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
  statuses_.put(item->key, std::move(status), [this, item, tenure = tenure_] {
    if (tenure == tenure_) dispatch(item);
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
  if (!item->entry.value) publication.headers.emplace_back(wire::kKvOperation, "DEL");
  streams_.cache->publish(std::move(publication), limits::lease_ttl,
                          in_tenure([this, item](Result<Sequence> result) {
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
  Token& token = item->current;
  auto run = std::make_shared<Run>();
  run->input.identity = token.identity;
  run->input.is_news = !token.news.empty();
  run->input.deleted = token.deleted;
  run->input.attempt = item->attempts + 1;
  run->input.deadline = Clock::now() + options_.timeout;
  run->input.epoch = lease_->epoch();
  if (token.news.empty()) {
    run->input.value = item->entry.value;
  } else if (token.of_view) {
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
  watch_deadline(item, run);
  pool_->submit([this, item, run] {
    run->started = true;
    const auto begun = Clock::now();
    run->result =
        run_once(materializer_, run->input, matters_, run->stop.get_token(), streams_.log);
    run->took = Clock::now() - begun;
    mailbox_.post([this, item] { ran(item); });
  });
}

void RunLoop::watch_deadline(const ItemPtr& item, const std::shared_ptr<Run>& run) {
  run->deadline = later(options_.timeout, [this, item, run] {
    run->deadline.reset();
    // One that still stands in line for a thread has used none of its time.
    if (!run->started) return watch_deadline(item, run);
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
  const bool forget = result.outcome.action() == Outcome::Action::forget ||
                      (result.outcome.action() == Outcome::Action::done && item->current.deleted);
  if (forget) {
    if (entry.value) return store(item, std::nullopt);
    return conclude(item);
  }
  if (result.value == entry.value) return conclude(item);
  store(item, std::move(result.value));
}

/// value   none: the entry is removed.
void RunLoop::store(const ItemPtr& item, std::optional<std::string> value) {
  Entry next{Sequence{}, std::move(value), wire::Done{created_, item->current.sequence}};
  transport::Publication publication{
      .subject = streams_.names.entry_subject(item->key),
      .headers = {{std::string(wire::kDone), wire::format_done(*next.done)},
                  {std::string(wire::kEpoch), std::to_string(lease_->epoch().value)}},
      .payload = next.value.value_or(""),
      .expected_last = item->entry.revision,
      .urgent = storing_ < kUrgentWrites};
  if (!next.value) publication.headers.emplace_back(wire::kKvOperation, "DEL");
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
  streams_.work->publish(
      {.subject = streams_.names.token_subject(item->current.identity),
       .headers = {{std::string(wire::kNotBefore), std::to_string(unix_ms(due))}},
       .expected_last = item->current.sequence},
      limits::publish_deadline, in_tenure([this, item](const Result<Sequence>& result) {
        if (!result.ok() && result.error().kind() != Kind::conflict) {
          later(kTroubleDelay, [this, item] { requeue(item); });
          return;
        }
        leave(item);
      }));
}

/// The present token is through: on to the next one, or forget the identity.
void RunLoop::leave(const ItemPtr& item) {
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
  if (!item->token) {
    item->token = std::move(item->current);
    item->loaded = true;
  }
  enqueue(item);
}

// ---- deleting tokens
// -----------------------------------------------------------------------------

void RunLoop::erase_token(Sequence sequence) {
  to_erase_.push_back(sequence);
}

void RunLoop::pump_erases() {
  do {
    while (!to_erase_.empty() && erasing_ < limits::erases_in_flight_max) {
      const Sequence sequence = to_erase_.front();
      to_erase_.pop_front();
      ++erasing_;
      send_erase(sequence);
    }
    erases_wait_ = !to_erase_.empty();
    // Answers that came before the flag was set woke nobody: look again.
  } while (erases_wait_ && erasing_ <= limits::erases_in_flight_max / 2);
}

void RunLoop::send_erase(Sequence sequence) {
  streams_.work->erase(sequence, [this, sequence, tenure = tenure_](const Result<bool>& result) {
    const std::size_t left = --erasing_;
    if (!result.ok()) {
      mailbox_.post([this, sequence, tenure] {
        if (tenure == tenure_) later(kTroubleDelay, [this, sequence] { erase_token(sequence); });
      });
    } else if (erases_wait_ && left == limits::erases_in_flight_max / 2) {
      mailbox_.post([] {});  // the owner sends the next half
    }
  });
}

}  // namespace dmm::worker
