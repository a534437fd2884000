#include "dmm/view/view_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/difference.h"
#include "dmm/view/release.h"
#include "dmm/view/state.h"

namespace dmm::view {

using engine::Value;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

constexpr milliseconds kTroubleDelay{500};

/// What may be otherwise at the next attempt.
bool may_heal(const Error& error) {
  return error.kind() == Kind::retry || error.kind() == Kind::not_found ||
         error.kind() == Kind::in_doubt || error.kind() == Kind::conflict;
}

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

ViewLoop::ViewLoop(const internal::Streams& streams, View view)
    : streams_(streams),
      declared_(std::move(view)),
      declared_hash_(hash_of(view_to_json(declared_))),
      view_(declared_),
      removals_(declared_.removals_free),
      gate_({}, Clock::now()) {
  compile(declared_);  // for its errors
}

ViewLoop::~ViewLoop() = default;

ViewStats ViewLoop::stats() const {
  const std::lock_guard lock(published_mutex_);
  return published_;
}

// ---- tenures

void ViewLoop::work(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  lease_ = std::make_unique<worker::Lease>(streams_, fmt::format("view.{}", name()),
                                           [this] { mailbox_.wake(); });
  while (!stop.stop_requested()) {
    if (!lease_->acquire(stop)) break;
    rebuild_ = false;
    if (!try_tenure()) {
      end_tenure();
      mailbox_.run_until(Clock::now() + kTroubleDelay);
      continue;
    }
    while (!stop.stop_requested() && lease_->held() && !rebuild_) turn();
    if (stop.stop_requested()) break;
    if (lease_->held()) save_state(true);
    end_tenure();
    // What made it begin anew may still be so.
    if (rebuild_) mailbox_.run_until(Clock::now() + kTroubleDelay);
  }
  hand_over();
}

/// Ends the work. A standby is not kept waiting while a large view is freed.
void ViewLoop::hand_over() {
  if (computation_ && lease_->held()) save_state(true);
  const auto writes_end = Clock::now() + limits::request_timeout;
  while ((sending_ > 0 || saving_) && Clock::now() < writes_end) {
    mailbox_.run_until(Clock::now() + milliseconds(20));
  }
  lease_->release();
  end_tenure();
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
  computation_.emplace(streams_, view_, [this] { mailbox_.wake(); });
  refused_.clear();
  removals_ = Removals(view_.removals_free);
  gate_ = RolloutGate({}, Clock::now());
  const auto saved = load_state(streams_, name());
  baselines_ = nlohmann::json::object();
  rolled_out_ = 0;
  if (saved) {
    for (const ViewInputInfo& input : saved->inputs) {
      baselines_[input.description] = input.baseline;
    }
    // What was held stays so: the count of the last minute is not known here.
    if (saved->doubt || saved->held > 0) removals_.doubt(saved->held_reason);
    rolled_out_ = saved->rolled_out;
  }
  if (carried_doubt_) removals_.doubt(*std::exchange(carried_doubt_, std::nullopt));
  if (rolled_out_ < release_.number) {
    gate_ = RolloutGate(release_.rollout, Clock::now());
    if (saved && saved->release == release_.number && !saved->stopped.empty()) {
      gate_.stay_stopped(saved->stopped);
    }
  }
  watch_people();
  computation_->open(baselines_);
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
  publish_stats();
}

void ViewLoop::rebuild(const std::string& why) {
  streams_.log.warn("the view is computed anew", {{"view", name()}, {"reason", why}});
  rebuild_ = true;
}

// ---- steps

void ViewLoop::turn() {
  const bool more = take_inputs();
  if (rebuild_) return;
  // What was told behind the end of the load is a change like any other.
  if (!telling_ && computation_->inputs().loaded()) {
    try {
      begin_telling();
    } catch (const Error& error) {
      if (!may_heal(error)) throw;
      return rebuild(error.what());
    }
  }
  if (!failed_.empty() && Clock::now() >= retry_at_) {
    for (const std::string& id : failed_) enqueue(id);
    failed_.clear();
  }
  pump();
  finish_rollout();
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
    saved_at_ = {};
  }
  for (const LeftOut& one : advance.left_out) {
    one.error ? refuse(one.place, *one.error) : accept(one.place);
  }
  if (advance.events.restart) {
    rebuild(*advance.events.restart);
    return false;
  }
  if (!advance.failure.empty()) {
    refuse("step", Error(code::step_failed, advance.failure));
    rebuild(advance.failure);
    return false;
  }
  if (advance.stepped) ++stats_.steps;
  if (telling_) {
    consider(advance.touched);
  } else {
    for (const std::string& id : advance.touched) computation_->rows().at(id).queued = false;
  }
  return computation_->inputs().waiting();
}

/// All inputs are loaded: from now on the difference between view and cache is told.
void ViewLoop::begin_telling() {
  const auto begun = Clock::now();
  compare_with_cache(streams_, name(), view_.type, computation_->rows());
  telling_ = true;
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
    if (slot.sending || slot.held) continue;
    if (slot.row == slot.told) {
      computation_->rows().drop_if_empty(id);
    } else if (has_row) {
      enqueue(id);
    } else {
      vanished.push_back(id);
    }
  }
  if (vanished.empty()) return;
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
  if (slot->sending || slot->twice || slot->row == slot->told) return;
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

void ViewLoop::told(const std::string& id, const Result<Sequence>& result) {
  Rows::Slot* slot = computation_->rows().find(id);
  if (slot == nullptr) return;
  slot->sending = false;
  const Value row = std::exchange(slot->sent, Value());
  if (!result.ok()) {
    if (result.error().kind() == Kind::invalid) return refuse("row." + id, result.error());
    streams_.log.warn("a notify of the view was not confirmed",
                      {{"view", name()}, {"id", id}, {"error", result.error().what()}});
    failed_.push_back(id);
    retry_at_ = Clock::now() + kTroubleDelay;
    return;
  }
  gate_.told(id, result.value(), Clock::now());
  ++stats_.notified;
  if (row.kind() == engine::Kind::null) ++stats_.removed;
  if (slot->overtaken < result.value()) slot->told = row;
  slot->entry = {};
  if (!slot->queued) consider({id});
}

// ---- people

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
  if (pending.order.what == "rebuild") return rebuild("a person asked for it");
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
  if (!to_tell_.empty() || !failed_.empty() || !removals_.held().empty()) return;
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
  streams_.log.info("removals were approved", {{"view", name()}, {"count", held}});
  for (const std::string& id : removals_.approve()) {
    computation_->rows().at(id).held = false;
    enqueue(id);
  }
  saved_at_ = {};
}

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
  const internal::Refusal refusal{
      "view",          printable(subject, 300),     0, std::string(error.code().id),
      error.message(), unix_ms(system_clock::now())};
  put_refusal(place, {}, dump_json(nlohmann::json(refusal)));
}

/// What was left out is no longer so.
void ViewLoop::accept(const std::string& place) {
  if (refused_.empty() || refused_.erase(place) == 0) return;
  put_refusal(place, {{std::string(wire::kKvOperation), "DEL"}}, "");
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

void ViewLoop::put_refusal(const std::string& place, transport::Headers headers,
                           std::string value) {
  streams_.status->publish({.subject = refusal_subject(place),
                            .headers = std::move(headers),
                            .payload = std::move(value)},
                           limits::publish_deadline, [](const Result<Sequence>&) {});
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
    state = present_state();
  } catch (const Error&) {
    return;  // a source does not answer: it is said when it does
  }
  std::string text = dump_json(state);
  if (text == saved_) return;
  saved_ = text;
  state["at"] = unix_ms(system_clock::now());
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
    stats_.input_rows = computation_->inputs().rows();
    stats_.rows = computation_->rows().size();
  }
  stats_.held = removals_.held().size();
  stats_.sending = sending_ + to_tell_.size() + failed_.size();
  stats_.loaded = telling_;
  stats_.holds_lease = lease_ && lease_->held();
  const std::lock_guard lock(published_mutex_);
  published_ = stats_;
}

}  // namespace dmm::view
