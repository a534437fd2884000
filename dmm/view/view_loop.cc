#include "dmm/view/view_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/history.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/release.h"

namespace dmm::view {

using engine::Value;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTroubleDelay{500};

}  // namespace

ViewLoop::ViewLoop(const internal::Streams& streams, View view, ViewSnapshots snapshots)
    : streams_(streams),
      declared_(std::move(view)),
      declared_hash_(hash_of(view_to_json(declared_))),
      lease_name_(fmt::format("view.{}", declared_.name)),
      view_(declared_),
      removals_(declared_.removals_free),
      gate_({}, Clock::now()),
      snapshots_(std::move(snapshots)),
      snapshot_file_(snapshots_.directory, streams.names.ns(), declared_.name) {
  compile(declared_);  // for its errors
}

ViewLoop::~ViewLoop() = default;

ViewStats ViewLoop::stats() const {
  const std::lock_guard lock(published_mutex_);
  ViewStats stats = published_;
  stats.settled = settled_at_ == heard_;
  stats.stands_by = stands_by_;
  return stats;
}

// ---- tenures

void ViewLoop::work(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  lease_ = std::make_unique<worker::Lease>(streams_, lease_name_, [this] { mailbox_.wake(); });
  while (!stop.stop_requested()) {
    if (!lease_->acquire(stop, &stands_by_)) break;
    rebuild_ = false;
    if (!try_tenure()) {
      end_tenure();
      let_trouble_pass(stop);
      continue;
    }
    while (!stop.stop_requested() && lease_->held() && !rebuild_) turn();
    if (stop.stop_requested()) break;
    if (lease_->held()) save_state(true);
    end_tenure();
    // What made it begin anew may still be so.
    if (rebuild_) let_trouble_pass(stop);
  }
  hand_over();
}

/// Whatever comes in meanwhile: where all streams are missing, that is something every few
/// milliseconds.
void ViewLoop::let_trouble_pass(const std::stop_token& stop) {
  const auto end = Clock::now() + kTroubleDelay;
  while (!stop.stop_requested() && lease_->held() && Clock::now() < end) mailbox_.run_until(end);
}

/// Ends the work. A standby is not kept waiting while a snapshot of a large view is made, nor while
/// it is freed.
void ViewLoop::hand_over() {
  const bool kept = computation_ && lease_->held();
  if (kept) save_state(true);
  const auto writes_end = Clock::now() + limits::request_timeout;
  while ((sending_ > 0 || saving_) && Clock::now() < writes_end) {
    mailbox_.run_until(Clock::now() + milliseconds(20));
  }
  lease_->release();
  if (kept) save_snapshot(true);
  snapshot_file_.wait();
  end_tenure();
}

bool ViewLoop::may_heal(const Error& error) {
  return error.kind() == Kind::retry || error.kind() == Kind::not_found ||
         error.kind() == Kind::in_doubt || error.kind() == Kind::conflict;
}

/// False if the view cannot be kept now. Another keeper gets its chance if it cannot be kept here.
bool ViewLoop::try_tenure() {
  try {
    begin_tenure();
    return true;
  } catch (const Error& error) {
    const bool foreign_release = release_.number > 0 && release_.hash != declared_hash_;
    if (error.kind() == Kind::invalid && foreign_release) {
      refuse("release", error);
      lease_->release();
      return false;
    }
    if (!may_heal(error)) throw;
    streams_.log.warn("the view could not begin", {{"view", name()}, {"error", error.what()}});
    return false;
  }
}

void ViewLoop::begin_tenure() {
  release_ = declare_release(streams_, declared_);
  if (release_.hash != declared_hash_) {
    streams_.log.warn("another release of the view is kept than this program declares",
                      {{"view", name()},
                       {"release", release_.number},
                       {"remedy", "`dmm view apply` brings a declaration back"}});
  }
  view_ = view_of(release_, declared_);
  read_clock();
  computation_.emplace(streams_, view_, clock_, [this] {
    ++heard_;
    mailbox_.wake();
  });
  refused_.clear();
  removals_ = Removals(view_.removals_free);
  gate_ = RolloutGate({}, Clock::now());
  auto saved = load_state(streams_, name());
  // Where the bucket lost it, the inputs may have lost as much: they are compared with what was
  // known.
  if (!saved) saved = known_state_;
  baselines_ = nlohmann::json::object();
  rolled_out_ = 0;
  if (saved) {
    for (const ViewInputInfo& input : saved->inputs) {
      baselines_[input.description] = input.baseline;
    }
    // What was held stays so: the count of the last minute is not known here.
    if (saved->doubt || saved->held > 0) removals_.doubt(saved->held_reason);
    rolled_out_ = saved->rolled_out;
    history_ = std::max(history_, saved->history);
  }
  if (carried_doubt_) removals_.doubt(*std::exchange(carried_doubt_, std::nullopt));
  if (rolled_out_ < release_.number) {
    gate_ = RolloutGate(release_.rollout, Clock::now());
    if (saved && saved->release == release_.number && !saved->stopped.empty()) {
      gate_.stay_stopped(saved->stopped);
    }
  }
  watch_people();
  open_inputs(saved.has_value());
}

/// What the server stored a moment ago, the message that took the lease, says what time it is
/// there. Rows that are silent for long are as old as they are from the first turn on.
void ViewLoop::read_clock() {
  const auto taken =
      transport::last(*streams_.leases, streams_.names.lease_subject(lease_name_, lease_->epoch()));
  if (!taken) throw Error(code::timed_out, "the lease was lost before the view began");
  clock_ = ServerClock();
  clock_.note(taken->stored_at);
}

void ViewLoop::end_tenure() {
  ++tenure_;
  // The next tenure begins before its state may have been stored.
  if (lease_->held() && (removals_.in_doubt() || !removals_.held().empty())) {
    carried_doubt_ = removals_.reason();
  }
  pending_order_.reset();
  people_.reset();
  statuses_.reset();
  tokens_.reset();
  computation_.reset();
  telling_ = false;
  to_tell_.clear();
  failed_.clear();
  missing_.clear();
  traces_.clear();
  publish_stats();
}

void ViewLoop::rebuild(const std::string& why) {
  streams_.log.warn("the view is computed anew", {{"view", name()}, {"reason", why}});
  rebuild_ = true;
  rebuilt_because_ = why;
}

// ---- steps

void ViewLoop::turn() {
  heard_before_ = heard_;
  const bool more = take_inputs();
  follow_losses();
  if (rebuild_) return;
  // What was told behind the end of the load is a change like any other.
  if (!telling_ && computation_->inputs().ready()) {
    try {
      begin_telling();
    } catch (const Error& error) {
      if (!may_heal(error)) throw;
      return rebuild(error.what());
    }
  }
  if (!missing_.empty() && computation_->inputs().complete()) {
    const auto missing = std::exchange(missing_, {});
    consider({missing.begin(), missing.end()});
  }
  if (!failed_.empty() && Clock::now() >= retry_at_) {
    tell_failed();
  }
  pump();
  finish_rollout();
  save_snapshot(false);
  save_state(false);
  publish_stats();
  // While there is more to take, only look at what has come in meanwhile.
  mailbox_.run_until(Clock::now() + (more ? milliseconds(0) : milliseconds(200)));
}

/// True if the inputs have more to give.
bool ViewLoop::take_inputs() {
  // What is told waits for the server; no more is taken in than can be told.
  if (to_tell_.size() >= limits::identities_ready_max && !gate_.limited()) return false;
  Advance advance = computation_->advance();
  if (advance.events.doubt) {
    streams_.log.warn("an input may lack rows: removals are held",
                      {{"view", name()}, {"reason", *advance.events.doubt}});
    removals_.doubt(*advance.events.doubt);
    void_snapshots();
  }
  for (const LeftOut& one : advance.left_out) {
    one.error ? refuse(one.place, *one.error) : accept(one.place);
  }
  if (advance.events.restart) {
    void_snapshots();
    rebuild(*advance.events.restart);
    return false;
  }
  if (!advance.failure.empty()) {
    refuse("step", Error(code::step_failed, advance.failure));
    void_snapshots();
    rebuild(advance.failure);
    return false;
  }
  if (advance.stepped) note_step(advance);
  if (telling_) {
    consider(advance.touched);
  } else {
    for (const std::string& id : advance.touched) computation_->rows().at(id).queued = false;
  }
  step_trace_.clear();
  return computation_->inputs().waiting();
}

/// The inputs are there: from now on the difference between view and cache is told.
void ViewLoop::begin_telling() {
  const auto begun = Clock::now();
  compare();
  internal::crash_point("compared the caches");
  telling_ = true;
  snapshot_due_ = Clock::now() + snapshots_.interval;
  ++stats_.rebuilds;
  std::vector<std::string> all;
  bool vanished = false;
  computation_->rows().each([&](const std::string& id, Rows::Slot& slot) {
    if (slot.foreign) {
      refuse("row." + id, Error(code::entry_of_other_view,
                                fmt::format("{}.{} belongs to another view", view_.type, id)));
    }
    if (slot.row == slot.told && !slot.twice) return;
    slot.queued = true;
    all.push_back(id);
    vanished = vanished || slot.row.kind() == engine::Kind::null;
  });
  if (const std::string unread = computation_->inputs().unread(); !unread.empty() && vanished) {
    removals_.doubt(unread);
  }
  std::ranges::sort(all);
  streams_.log.info(
      "the view is loaded",
      {{"view", name()},
       {"rows", computation_->rows().size()},
       {"to_tell", all.size()},
       {"compared_ms", std::chrono::duration_cast<milliseconds>(Clock::now() - begun).count()}});
  consider(all);
  forget_old_refusals();
  if (pending_order_) follow(*std::exchange(pending_order_, std::nullopt));
  saved_at_ = {};
}

// ---- telling

/// Looks at identities whose row may be another one than was told.
void ViewLoop::consider(const std::vector<std::string>& ids) {
  std::vector<std::string> vanished;
  for (const std::string& id : ids) {
    Rows::Slot& slot = computation_->rows().at(id);
    slot.queued = false;
    const bool has_row = slot.row.kind() != engine::Kind::null;
    if (slot.twice) {
      refuse("row." + id,
             Error(code::row_twice, fmt::format("{} has more than one row", printable(id))));
      continue;
    }
    if (slot.foreign) continue;
    accept("row." + id);
    if (has_row && slot.held) {
      slot.held = false;
      removals_.withdraw(id);
    }
    keep_trace(id, slot);
    if (slot.sending || slot.held) continue;
    if (slot.is_told()) {
      computation_->rows().drop_if_empty(id);
    } else if (has_row) {
      enqueue(id);
    } else {
      vanished.push_back(id);
    }
  }
  if (vanished.empty()) return;
  if (!computation_->inputs().complete()) {
    missing_.insert(vanished.begin(), vanished.end());
    return;
  }
  const std::vector<std::string> going =
      removals_.propose(vanished, computation_->rows().size(), Clock::now());
  for (const std::string& id : going) enqueue(id);
  if (going.size() == vanished.size()) return;
  for (const std::string& id : vanished) computation_->rows().at(id).held = true;
  streams_.log.warn(
      "removals are held until they are approved",
      {{"view", name()}, {"held", removals_.held().size()}, {"reason", removals_.reason()}});
  saved_at_ = {};
}

void ViewLoop::enqueue(const std::string& id) {
  if (std::exchange(computation_->rows().at(id).waiting, true)) return;
  to_tell_.push_back(id);
}

void ViewLoop::pump() {
  while (!to_tell_.empty() && sending_ < limits::publishes_in_flight_max && lease_->held() &&
         gate_.open(Clock::now())) {
    const std::string id = std::move(to_tell_.front());
    to_tell_.pop_front();
    tell(id);
  }
}

void ViewLoop::tell(const std::string& id) {
  Rows::Slot* slot = computation_->rows().find(id);
  if (slot == nullptr) return;
  slot->waiting = false;
  if (slot->sending || slot->twice || slot->is_told()) return;
  const bool removal = slot->row.kind() == engine::Kind::null;
  if (removal && slot->held) return;
  const Identity identity{view_.type, id};
  try {
    check(identity);
  } catch (const Error& error) {
    return refuse("row." + id, error);
  }
  transport::Publication publication{
      .subject = streams_.names.token_subject(identity),
      .headers = {{std::string(wire::kView), view_header(name(), release_.hash)},
                  {std::string(wire::kEpoch), std::to_string(lease_->epoch().value)}},
      .payload = removal ? engine::to_text(slot->told) : news_of(slot->row, slot->told),
      .urgent = sending_ < 4};
  if (removal) publication.headers.emplace_back(wire::kDeleted, "1");
  if (slot->entry) {
    publication.headers.emplace_back(wire::kEntry, std::to_string(slot->entry.value));
  }
  internal::add_losses(streams_, publication.headers);
  if (const auto trace = traces_.find(id); trace != traces_.end()) {
    publication.headers.emplace_back(wire::kTraceparent, trace->second);
  }
  slot->sending = true;
  slot->sent = slot->row;  // values stay with the owner: their counts are for one thread
  ++sending_;
  gate_.take();
  streams_.work->publish(std::move(publication), limits::publish_deadline,
                         [this, tenure = tenure_, id](const Result<Sequence>& result) {
                           mailbox_.post([this, tenure, id, result] {
                             --sending_;
                             if (tenure == tenure_) told(id, result);
                           });
                         });
}

/// Removals were let go before; all else is looked at, because the row may be gone by now.
void ViewLoop::tell_failed() {
  std::vector<std::string> changed;
  for (Failed& one : std::exchange(failed_, {})) {
    if (one.removal) {
      enqueue(one.id);
    } else {
      changed.push_back(std::move(one.id));
    }
  }
  consider(changed);
}

void ViewLoop::told(const std::string& id, const Result<Sequence>& result) {
  Rows::Slot* slot = computation_->rows().find(id);
  if (slot == nullptr) return;
  slot->sending = false;
  const Value row = std::exchange(slot->sent, Value());
  if (!result.ok()) {
    if (result.error().kind() == Kind::invalid) return refuse("row." + id, result.error());
    streams_.log.warn("a notify of the view was not confirmed",
                      {{"view", name()}, {"id", id}, {"error", result.error().what()}});
    if (result.error().kind() == Kind::in_doubt) {
      // It may have been told: then a row that is as it was before is to be told as well.
      slot->doubt = true;
      slot->told = united(slot->told, row);
    }
    failed_.push_back({id, row.kind() == engine::Kind::null});
    retry_at_ = Clock::now() + kTroubleDelay;
    return;
  }
  internal::crash_point("told a row");
  gate_.told(id, result.value(), Clock::now());
  ++stats_.notified;
  slot->proven = false;
  slot->doubt = false;
  traces_.erase(id);
  if (row.kind() == engine::Kind::null) {
    ++stats_.removed;
    note_removed(id);
  }
  if (slot->overtaken < result.value()) slot->told = row;
  slot->entry = {};
  if (!slot->queued) consider({id});
}

}  // namespace dmm::view
