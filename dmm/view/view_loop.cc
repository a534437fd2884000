#include "dmm/view/view_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/view/difference.h"
#include "engine/error.h"

namespace dmm::view {

using engine::Value;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

constexpr milliseconds kTroubleDelay{500};
constexpr const char* kOutput = "output";

std::int64_t unix_ms(system_clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

engine::Program compile(const View& view) {
  engine::ProgramOptions options;
  options.name = view.name;
  options.inputs.clear();
  for (const ViewInput& input : view.inputs) {
    options.inputs.push_back({input.name.empty() ? input.of : input.name, ""});
  }
  options.outputs = {{kOutput, ""}};
  try {
    return engine::Program::compile(view.pipeline, options);
  } catch (const engine::Error& error) {
    throw Error(code::bad_pipeline, fmt::format("view {}: {}", view.name, error.what()));
  }
}

}  // namespace

ViewLoop::ViewLoop(const internal::Streams& streams, View view)
    : streams_(streams),
      view_(std::move(view)),
      hash_(pipeline_hash(view_.pipeline, view_.key)),
      removals_(view_.removals_free) {
  compile(view_);  // for its errors
}

ViewLoop::~ViewLoop() = default;

ViewStats ViewLoop::stats() const {
  const std::lock_guard lock(published_mutex_);
  return published_;
}

void ViewLoop::on_message(transport::Message message) noexcept {
  mailbox_.post([this, message = std::move(message)] {
    if (approvals_) approvals_->grant(1);
    const auto value = parse_json(message.payload);
    if (wire::is_removed(message) || !value.ok()) return;
    try {
      approve(value.value().get<Approval>());
    } catch (const nlohmann::json::exception& error) {
      streams_.log.warn("an approval could not be read", {{"error", error.what()}});
    }
  });
}

// ---- tenures

void ViewLoop::work(std::stop_token stop) {
  const std::stop_callback wake(stop, [this] { mailbox_.wake(); });
  lease_ = std::make_unique<worker::Lease>(streams_, fmt::format("view.{}", view_.name),
                                           [this] { mailbox_.wake(); });
  while (!stop.stop_requested()) {
    const auto tenure = lease_->acquire(stop);
    if (!tenure) break;
    rebuild_ = false;
    try {
      begin_tenure();
    } catch (const Error& error) {
      if (error.kind() != Kind::retry && error.kind() != Kind::not_found) throw;
      streams_.log.warn("the view could not begin",
                        {{"view", view_.name}, {"error", error.what()}});
      end_tenure();
      mailbox_.run_until(Clock::now() + kTroubleDelay);
      continue;
    }
    while (!stop.stop_requested() && lease_->held() && !rebuild_) turn();
    if (lease_->held()) save_state(true);
    end_tenure();
    // What made it begin anew may still be so.
    if (rebuild_) mailbox_.run_until(Clock::now() + kTroubleDelay);
  }
  const auto writes_end = Clock::now() + limits::request_timeout;
  while ((sending_ > 0 || saving_) && Clock::now() < writes_end) {
    mailbox_.run_until(Clock::now() + milliseconds(20));
  }
  lease_->release();
  publish_stats();
}

void ViewLoop::begin_tenure() {
  program_.emplace(compile(view_));
  rows_.emplace(view_.key);
  refused_.clear();
  removals_ = Removals(view_.removals_free);
  const auto saved = load_state(streams_, view_.name);
  baselines_ = nlohmann::json::object();
  if (saved) {
    for (const ViewInputInfo& input : saved->inputs) baselines_[input.name] = input.baseline;
    if (saved->doubt) removals_.doubt(saved->held_reason);
  }
  inputs_ = std::make_unique<Inputs>(streams_, view_, *program_, [this] { mailbox_.wake(); });
  inputs_->open(baselines_);
  approvals_ =
      streams_.status->read({.filter = streams_.names.status_subject(approval_key(view_.name)),
                             .after = {},
                             .only_new = true},
                            *this);
  approvals_->grant(1);
}

void ViewLoop::end_tenure() {
  ++tenure_;
  approvals_.reset();
  inputs_.reset();
  result_ = {};
  rows_.reset();
  program_.reset();
  telling_ = false;
  to_tell_.clear();
  failed_.clear();
  publish_stats();
}

void ViewLoop::rebuild(const std::string& why) {
  streams_.log.warn("the view is computed anew", {{"view", view_.name}, {"reason", why}});
  rebuild_ = true;
}

// ---- steps

void ViewLoop::turn() {
  const bool more = take_inputs();
  if (rebuild_) return;
  if (!telling_ && inputs_->loaded() && !inputs_->waiting()) begin_telling();
  if (!failed_.empty() && Clock::now() >= retry_at_) {
    for (std::string& id : failed_) to_tell_.push_back(std::move(id));
    failed_.clear();
  }
  pump();
  save_state(false);
  publish_stats();
  // While there is more to take, only look at what has come in meanwhile.
  mailbox_.run_until(Clock::now() + (more ? milliseconds(0) : milliseconds(200)));
}

/// True if the inputs have more to give.
bool ViewLoop::take_inputs() {
  // What is told waits for the server; no more is taken in than can be told.
  if (to_tell_.size() >= limits::identities_ready_max) return false;
  engine::StepInput input;
  const InputEvents events =
      inputs_->take(limits::view_step_changes, input, [this](const Unreadable& document) {
        const std::string place = document.input + "." + document.key;
        if (document.error) return refuse(place, *document.error);
        accept(place);
      });
  if (events.doubt) {
    streams_.log.warn("an input may lack rows: removals are held",
                      {{"view", view_.name}, {"reason", *events.doubt}});
    removals_.doubt(*events.doubt);
    saved_at_ = {};
  }
  if (events.restart) {
    rebuild(*events.restart);
    return false;
  }
  run_step(input);
  return inputs_->waiting();
}

void ViewLoop::run_step(engine::StepInput& input) {
  std::erase_if(input.batches, [](const auto& batch) { return batch.second.empty(); });
  if (input.batches.empty()) return;
  const auto now = system_clock::now();
  input.time = engine::StepTime{unix_ms(now) / 1'000, stats_.steps};
  ++stats_.steps;
  if (!program_->step(input, result_)) {
    // Nothing of the step has happened, so the engine no longer is what the inputs are.
    streams_.log.error("a step of the view failed",
                       {{"view", view_.name}, {"error", result_.failure}});
    refuse("step", Error(code::step_failed, result_.failure));
    return rebuild(result_.failure);
  }
  note_errors();
  const std::vector<std::string> touched = rows_->apply(result_.outputs[kOutput]);
  if (rows_->without_key() > 0) {
    refuse("rows", Error(code::row_without_key,
                         fmt::format("a row has no field \"{}\" that is a text or an integer",
                                     printable(view_.key))));
  } else {
    accept("rows");
  }
  if (telling_) {
    consider(touched);
  } else {
    for (const std::string& id : touched) rows_->at(id).queued = false;
  }
}

void ViewLoop::note_errors() {
  for (const engine::Row& row : result_.errors) {
    engine::ValueRef node;
    engine::ValueRef text;
    if (!row.value->find("node", node) || !row.value->find("error", text)) continue;
    const std::string place = fmt::format("{}.{:08x}", node.as_string(), engine::hash(row.value));
    if (row.weight > 0) {
      refuse(place, Error(code::not_evaluated, printable(text.as_string(), 500)));
    } else {
      accept(place);
    }
  }
}

/// All inputs are loaded: from now on the difference between view and cache is told.
void ViewLoop::begin_telling() {
  const auto begun = Clock::now();
  compare_with_cache(streams_, view_.name, view_.type, *rows_);
  telling_ = true;
  ++stats_.rebuilds;
  std::vector<std::string> all;
  rows_->each([&](const std::string& id, Rows::Slot& slot) {
    if (slot.foreign) {
      refuse("row." + id, Error(code::entry_of_other_view,
                                fmt::format("{}.{} belongs to another view", view_.type, id)));
    }
    if (slot.row == slot.told && !slot.twice) return;
    slot.queued = true;
    all.push_back(id);
  });
  std::ranges::sort(all);
  streams_.log.info(
      "the view is loaded",
      {{"view", view_.name},
       {"rows", rows_->size()},
       {"to_tell", all.size()},
       {"compared_ms", std::chrono::duration_cast<milliseconds>(Clock::now() - begun).count()}});
  consider(all);
  forget_old_refusals();
  saved_at_ = {};
}

// ---- telling

/// Looks at identities whose row may be another one than was told.
void ViewLoop::consider(const std::vector<std::string>& ids) {
  std::vector<std::string> vanished;
  for (const std::string& id : ids) {
    Rows::Slot& slot = rows_->at(id);
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
      rows_->drop_if_empty(id);
    } else if (has_row) {
      to_tell_.push_back(id);
    } else {
      vanished.push_back(id);
    }
  }
  if (vanished.empty()) return;
  const std::vector<std::string> going = removals_.propose(vanished, rows_->size(), Clock::now());
  to_tell_.insert(to_tell_.end(), going.begin(), going.end());
  if (going.size() == vanished.size()) return;
  for (const std::string& id : vanished) rows_->at(id).held = true;
  streams_.log.warn(
      "removals are held until they are approved",
      {{"view", view_.name}, {"held", removals_.held().size()}, {"reason", removals_.reason()}});
  saved_at_ = {};
}

void ViewLoop::pump() {
  while (!to_tell_.empty() && sending_ < limits::publishes_in_flight_max && lease_->held()) {
    const std::string id = std::move(to_tell_.front());
    to_tell_.pop_front();
    tell(id);
  }
}

void ViewLoop::tell(const std::string& id) {
  Rows::Slot* slot = rows_->find(id);
  if (slot == nullptr || slot->sending || slot->twice || slot->row == slot->told) return;
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
      .headers = {{std::string(wire::kView), view_header(view_.name, hash_)},
                  {std::string(wire::kEpoch), std::to_string(lease_->epoch().value)}},
      .payload = removal ? engine::to_text(slot->told) : news_of(slot->row, slot->told),
      .urgent = sending_ < 4};
  if (removal) publication.headers.emplace_back(wire::kDeleted, "1");
  slot->sending = true;
  slot->sent = slot->row;  // values stay with the owner: their counts are for one thread
  ++sending_;
  streams_.work->publish(std::move(publication), limits::publish_deadline,
                         [this, tenure = tenure_, id](const Result<Sequence>& result) {
                           mailbox_.post([this, tenure, id, result] {
                             --sending_;
                             if (tenure == tenure_) told(id, result);
                           });
                         });
}

void ViewLoop::told(const std::string& id, const Result<Sequence>& result) {
  Rows::Slot* slot = rows_->find(id);
  if (slot == nullptr) return;
  slot->sending = false;
  const Value row = std::exchange(slot->sent, Value());
  if (!result.ok()) {
    if (result.error().kind() == Kind::invalid) return refuse("row." + id, result.error());
    streams_.log.warn("a notify of the view was not confirmed",
                      {{"view", view_.name}, {"id", id}, {"error", result.error().what()}});
    failed_.push_back(id);
    retry_at_ = Clock::now() + kTroubleDelay;
    return;
  }
  ++stats_.notified;
  if (row.kind() == engine::Kind::null) ++stats_.removed;
  slot->told = row;
  if (!slot->queued) consider({id});
}

// ---- people

void ViewLoop::approve(const Approval& approval) {
  if (!telling_) return;
  const std::size_t held = removals_.held().size();
  if (approval.removals < held || (held == 0 && !removals_.in_doubt())) {
    streams_.log.warn("an approval does not cover what is held",
                      {{"view", view_.name}, {"held", held}, {"approved", approval.removals}});
    return;
  }
  streams_.log.info("removals were approved", {{"view", view_.name}, {"count", held}});
  for (const std::string& id : removals_.approve()) {
    rows_->at(id).held = false;
    to_tell_.push_back(id);
  }
  saved_at_ = {};
}

/// Says that a document or a row was left out, and why. Each is said once.
void ViewLoop::refuse(const std::string& place, const Error& error) {
  std::string& said = refused_[place];
  if (said == error.message()) return;
  said = error.message();
  ++stats_.refused;
  streams_.log.warn("left out of the view", {{"view", view_.name},
                                             {"place", printable(place, 300)},
                                             {"code", std::string(error.code().id)},
                                             {"error", error.message()}});
  const std::string subject = fmt::format("view.{}.{}", view_.name, place);
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
                  streams_.names.status_subject(fmt::format("refused.view.view.{}.>", view_.name)),
                  [&](const transport::Message& message) {
                    if (!present.contains(message.subject)) old.push_back(message.sequence);
                  });
  for (const Sequence sequence : old) {
    streams_.status->erase(sequence, [](const Result<bool>&) {});
  }
}

std::string ViewLoop::refusal_subject(const std::string& place) const {
  return streams_.names.status_subject(
      internal::refusal_key("view", fmt::format("view.{}.{}", view_.name, place)));
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
  state.name = view_.name;
  state.type = view_.type;
  state.key = view_.key;
  state.pipeline = hash_;
  state.epoch = lease_->epoch().value;
  state.loaded = telling_;
  state.rows = rows_->size();
  state.notified = stats_.notified;
  state.removed = stats_.removed;
  state.refused = stats_.refused;
  state.stale = inputs_->counts().stale;
  state.sending = sending_ + to_tell_.size();
  state.twice = rows_->twice();
  state.without_key = rows_->without_key();
  state.held = removals_.held().size();
  state.held_reason = removals_.reason();
  for (const std::string& id : removals_.held()) {
    if (state.held_some.size() == 10) break;
    state.held_some.push_back(id);
  }
  state.doubt = removals_.in_doubt();
  state.inputs = inputs_->infos();
  // Until everything is loaded and told nothing of it may become what the next owner trusts.
  if (!telling_ || removals_.in_doubt()) {
    for (ViewInputInfo& input : state.inputs) {
      input.baseline = baselines_.value(input.name, nlohmann::json());
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
  streams_.status->publish({.subject = streams_.names.status_subject(state_key(view_.name)),
                            .payload = dump_json(state)},
                           limits::publish_deadline, [this](const Result<Sequence>&) {
                             mailbox_.post([this] { saving_ = false; });
                           });
}

void ViewLoop::publish_stats() {
  if (inputs_) {
    const InputCounts& counts = inputs_->counts();
    stats_.changes = counts.changes;
    stats_.unchanged = counts.unchanged;
    stats_.stale = counts.stale;
    stats_.expired = counts.expired;
    stats_.input_rows = inputs_->rows();
    stats_.rows = rows_->size();
  }
  stats_.held = removals_.held().size();
  stats_.sending = sending_ + to_tell_.size() + failed_.size();
  stats_.loaded = telling_;
  stats_.holds_lease = lease_ && lease_->held();
  const std::lock_guard lock(published_mutex_);
  published_ = stats_;
}

}  // namespace dmm::view
