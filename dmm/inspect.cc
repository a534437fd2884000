#include "dmm/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>
#include <utility>

#include "dmm/internal/diagnose.h"
#include "dmm/internal/done.h"
#include "dmm/internal/history.h"
#include "dmm/internal/roll_call.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/internal/streams.h"
#include "dmm/internal/watch.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/wire.h"
#include "dmm/worker/token.h"
#include "engine/version.h"

namespace dmm {

std::string_view to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::settled:
      return "settled";
    case Phase::waiting:
      return "waiting";
    case Phase::failing:
      return "failing";
    case Phase::offline:
      return "offline";
    case Phase::parked:
      return "parked";
  }
  return "settled";
}

std::string_view to_string(Finding::Severity severity) noexcept {
  switch (severity) {
    case Finding::Severity::good:
      return "good";
    case Finding::Severity::note:
      return "note";
    case Finding::Severity::warning:
      return "warning";
    case Finding::Severity::failure:
      return "failure";
  }
  return "failure";
}

}  // namespace dmm

namespace dmm::internal {

namespace {

using std::chrono::system_clock;
using transport::Message;

system_clock::time_point from_unix_ms(std::int64_t ms) {
  return system_clock::time_point(
      std::chrono::duration_cast<system_clock::duration>(std::chrono::milliseconds(ms)));
}

// ---- one identity ----

// What lies in the streams for one identity.
struct Found {
  std::optional<Message> token;
  std::optional<Message> entry;  // may say that the key was removed
  std::optional<Status> status;
  Sequence status_sequence;
};

Effective effective_of(Found& found, std::string_view created) {
  Effective effective;
  if (found.token) {
    effective.token_sequence = found.token->sequence;
    const auto header = found.entry ? found.entry->header(wire::kDone) : std::nullopt;
    const auto done = header ? wire::parse_done(*header) : std::nullopt;
    if (!done || !internal::is_done(*done, created, found.token->sequence, found.token->stored_at,
                                    found.entry->stored_at)) {
      effective.token = std::move(found.token);
    }
  }
  if (found.entry && !wire::is_removed(*found.entry)) effective.entry = std::move(found.entry);
  return effective;
}

// Why a stored message cannot be taken as it is; empty if it can.
std::string damage_of(const Message& message, std::string_view what, bool with_value) {
  const std::optional<int> version = wire::format_version(message.headers);
  if (!version || *version > wire::kFormatVersion) {
    const std::string_view text = message.header(wire::kVersion).value_or("");
    return Error(code::newer_format,
                 fmt::format("the {} has format version {}, this program knows up to {}", what,
                             printable(text, 40), wire::kFormatVersion))
        .what();
  }
  if (!with_value) return {};
  const Result<nlohmann::json> value = parse_json(message.payload);
  if (value.ok()) return {};
  return Error(value.error().code(), fmt::format("the {}: {}", what, value.error().message()))
      .what();
}

// An empty token is a poke and has no value that could be damaged.
std::string damage_of(const Effective& effective, bool values) {
  if (effective.token) {
    std::string damage =
        damage_of(*effective.token, "token", values && !effective.token->payload.empty());
    if (!damage.empty()) return damage;
  }
  if (effective.entry) return damage_of(*effective.entry, "entry", values);
  return {};
}

// False for a token that no worker takes.
bool is_readable(const Message& token) {
  return worker::read_token(token).ok() &&
         damage_of(token, "token", !token.payload.empty()).empty();
}

// Values that cannot be merged are shown as they are.
std::optional<std::string> text_of(const Effective& effective) {
  try {
    return effective_text(effective);
  } catch (const Error&) {
    return effective.token->payload;  // Matter::damage says why
  }
}

void apply_status(const Status& status, Matter& matter) {
  matter.phase = status.phase == "parked"    ? Phase::parked
                 : status.phase == "offline" ? Phase::offline
                                             : Phase::failing;
  matter.waits_for = status.waits_for;
  matter.attempts = status.attempts;
  matter.error_code = status.error_code;
  matter.error = status.error;
  matter.failed_at = from_unix_ms(status.failed_at);
  if (status.next_retry_at != 0) matter.next_retry_at = from_unix_ms(status.next_retry_at);
  matter.crashes = status.crashes;
}

std::vector<Failure> failures_of(const Status& status) {
  std::vector<Failure> failures;
  for (const PastFailure& one : status.failures) {
    failures.push_back(
        {from_unix_ms(one.at), Sequence{one.token}, one.attempt, one.error_code, one.error});
  }
  return failures;
}

Matter make_matter(Identity identity, Found found, std::string_view created, bool values) {
  Matter matter;
  matter.identity = std::move(identity);
  Effective effective = effective_of(found, created);
  matter.damage = damage_of(effective, values);
  if (values) matter.effective = text_of(effective);
  if (effective.token) {
    matter.phase = Phase::waiting;
    matter.token = effective.token->sequence;
    matter.deleted = effective.token->header(wire::kDeleted).has_value();
    matter.view = wire::view_of(effective.token->header(wire::kView).value_or(""));
    matter.notified_at = effective.token->stored_at;
    // A status of an older token is of the past: news have come since.
    const bool current = found.status && found.status->created == created &&
                         found.status->token == matter.token.value;
    if (current) apply_status(*found.status, matter);
    if (found.status) matter.failures = failures_of(*found.status);
    if (values) matter.news = std::move(effective.token->payload);
  }
  if (effective.entry) {
    matter.revision = effective.entry->sequence;
    matter.stored_at = effective.entry->stored_at;
    if (matter.view.empty()) {
      matter.view = wire::view_of(effective.entry->header(wire::kView).value_or(""));
    }
    if (values) matter.stored = std::move(effective.entry->payload);
  }
  return matter;
}

bool is_nothing(const Found& found) {
  return !found.token && !found.status && (!found.entry || wire::is_removed(*found.entry));
}

// ---- leases ----

// The holder that a lease message names. Anything may lie there: rubbish names nobody.
LeaseInfo read_lease(const Message& message, std::string_view name, Epoch epoch) {
  LeaseInfo lease;
  lease.name = name;
  lease.epoch = epoch;
  const Result<nlohmann::json> value = parse_json(message.payload);
  if (value.ok() && value.value().is_object()) {
    const nlohmann::json& fields = value.value();
    if (const auto holder = fields.find("holder"); holder != fields.end() && holder->is_string()) {
      lease.holder = holder->get<std::string>();
    }
    const auto released = fields.find("released");
    lease.released = released != fields.end() && *released == true;
  }
  if (!lease.released) lease.last_beat = message.stored_at;  // taking it counts as a beat
  return lease;
}

// "work.player" of "work.player.17", the lease of a lane; empty of any other lease.
std::string_view lanes_of(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (!name.starts_with("work.") || dot == std::string_view::npos) return {};
  const std::string_view lane = name.substr(dot + 1);
  const bool number =
      !lane.empty() && lane.find_first_not_of("0123456789") == std::string_view::npos;
  return number ? name.substr(0, dot) : std::string_view();
}

// All that lies in the lease stream, while it is put together.
class LeaseSurvey final {
 public:
  explicit LeaseSurvey(const wire::Names& names) : names_(names) {}

  void take(const Message& message) {
    const std::string_view name = names_.lease_name(message.subject);
    const std::size_t dot = name.rfind('.');
    if (dot == std::string_view::npos) return;
    if (name.starts_with("seat.")) return take_seat(message, name);
    std::uint64_t epoch = 0;
    std::from_chars(name.data() + dot + 1, name.data() + name.size(), epoch);
    LeaseInfo& slot = newest_[std::string(name.substr(0, dot))];
    if (epoch > slot.epoch.value) slot = read_lease(message, name.substr(0, dot), Epoch{epoch});
  }
  void take_beat(const Message& message) {
    beats_[message.subject.substr(names_.beat_subject({}).size())] = message.stored_at;
  }

  std::vector<LeaseInfo> result() {
    std::vector<LeaseInfo> all;
    for (auto& [name, lease] : newest_) {
      if (const std::string_view type = lanes_of(name); !type.empty()) {
        add_lane(std::string(type), lease);
      } else if (!name.empty() && lease.epoch.value > 0 && !is_group(name, lease.holder)) {
        hear(lease, lease.holder);
        all.push_back(std::move(lease));
      }
    }
    for (auto& [key, lease] : lanes_) {
      hear(lease, lease.name + '.' + lease.holder);
      all.push_back(std::move(lease));
    }
    std::ranges::stable_sort(all, {}, &LeaseInfo::name);
    return all;
  }

 private:
  // "seat.<type>.<holder>": a worker that may own lanes, or stand by.
  void take_seat(const Message& message, std::string_view name) {
    const std::size_t dot = name.rfind('.');
    LeaseInfo seat = read_lease(message, "work." + std::string(name.substr(5, dot - 5)), Epoch());
    seat.holder = name.substr(dot + 1);
    if (seat.released) return;  // perhaps said by others, who found it dead
    beats_[seat.name + '.' + seat.holder] = message.stored_at;
    seat.lanes = 0;
    lanes_.emplace(seat.name + '.' + seat.holder, std::move(seat));
  }
  void add_lane(const std::string& type, LeaseInfo& lane) {
    if (lane.released) lane.holder.clear();
    LeaseInfo& sum = lanes_[type + '.' + lane.holder];
    lane.lanes = sum.lanes.value_or(0) + 1;
    lane.epoch = std::max(lane.epoch, sum.epoch);
    lane.last_beat = std::max(lane.last_beat, sum.last_beat);
    lane.name = type;
    sum = std::move(lane);
  }
  // The lease that all workers with lanes hold together says nothing that the lanes do not say.
  static bool is_group(std::string_view name, std::string_view holder) {
    return name.starts_with("work.") && name.ends_with(".all") && holder.starts_with("lanes-");
  }
  void hear(LeaseInfo& lease, const std::string& beat) const {
    const auto found = beats_.find(beat);
    if (found == beats_.end() || lease.released) return;
    lease.last_beat = std::max(lease.last_beat.value_or(found->second), found->second);
  }

  const wire::Names& names_;
  std::map<std::string, LeaseInfo> newest_;                // by name
  std::map<std::string, LeaseInfo> lanes_;                 // by "work.<type>.<holder>"
  std::map<std::string, system_clock::time_point> beats_;  // by holder, or as lanes_
};

// ---- the inspector ----

class StreamInspector final : public Inspector {
 public:
  StreamInspector(const Streams& streams, std::vector<std::string> exposed)
      : streams_(streams), exposed_(std::move(exposed)) {}

  std::vector<Matter> list(std::string_view type, bool values) override;
  std::optional<Matter> get(const Identity& identity) override;
  std::vector<Refused> refused() override;
  std::vector<LastReport> reports(std::string_view kind) override;
  std::vector<Shadow> shadows(std::string_view kind) override;
  std::vector<LeaseInfo> leases() override;
  void watch(std::string_view type, std::stop_token stop,
             const std::function<void(const Change&)>& visit) override;
  void watch_parked(std::string_view type, std::stop_token stop,
                    const std::function<void(const Change&)>& visit) override;
  std::vector<HistoryLoss> losses() override;
  bool purge(const Identity& identity) override;
  bool drop(const Identity& identity) override;
  bool drop(const Refused& refused) override;
  std::vector<Finding> diagnose() override;
  transport::ServerFacts server() override { return streams_.transport->facts(); }
  std::vector<transport::StreamState> streams() override;

 private:
  using ByKey = std::map<std::string, Found>;

  void scan_tokens(std::string_view type, bool values, ByKey& found);
  void scan_entries(std::string_view type, bool values, ByKey& found);
  void scan_status(std::string_view type, ByKey& found);
  Found find(const Identity& identity);
  std::string work_created();
  void survey_readers(Survey& survey, std::vector<transport::ConsumerState> StreamSurvey::*readers);
  void survey_workers(Survey& survey);

  const Streams streams_;
  const std::vector<std::string> exposed_;  ///< files with secrets that others can read
};

// Tokens first: an entry is stored before its token is deleted, so that what was a token when we
// looked is at least an entry later.
std::vector<Matter> StreamInspector::list(std::string_view type, bool values) {
  if (!type.empty()) check_name(type, "type");
  const std::string created = work_created();
  ByKey by_key;
  scan_tokens(type, values, by_key);
  scan_entries(type, values, by_key);
  scan_status(type, by_key);
  std::vector<Matter> matters;
  for (auto& [key, found] : by_key) {
    std::optional<Identity> identity = parse_key(key);
    if (!identity || is_nothing(found)) continue;
    matters.push_back(make_matter(std::move(*identity), std::move(found), created, values));
  }
  return matters;
}

void StreamInspector::scan_tokens(std::string_view type, bool values, ByKey& by_key) {
  transport::scan(
      *streams_.work, streams_.names.token_filter(type),
      [&](Message message) {
        const auto parts = wire::split_token(message.subject);
        if (!parts) return;
        std::string key = fmt::format("{}.{}", parts->type, parts->id);
        // A token in another spelling or lane is refused by the worker, see refused().
        if (!parse_key(key) || parts->lane != std::to_string(lane_of_key(key))) return;
        by_key[std::move(key)].token = std::move(message);
      },
      !values);
}

void StreamInspector::scan_entries(std::string_view type, bool values, ByKey& by_key) {
  transport::scan(
      *streams_.cache, streams_.names.entry_filter(type),
      [&](Message message) {
        std::string key(streams_.names.entry_key(message.subject));
        if (parse_key(key)) by_key[std::move(key)].entry = std::move(message);
      },
      !values);
}

void StreamInspector::scan_status(std::string_view type, ByKey& by_key) {
  transport::scan(*streams_.status, streams_.names.status_filter(type), [&](Message message) {
    const std::string key(streams_.names.status_key(message.subject));
    if (!parse_key(key)) return;  // a refusal or a cursor
    std::optional<Status> status = parse_status<Status>(message);
    if (status) by_key[key].status = std::move(status);
  });
}

Found StreamInspector::find(const Identity& identity) {
  check(identity);
  const std::string key = key_of(identity);
  Found found;
  found.token = transport::last(*streams_.work, streams_.names.token_subject(identity));
  found.entry = transport::last(*streams_.cache, streams_.names.entry_subject(key));
  const auto status = transport::last(*streams_.status, streams_.names.status_subject(key));
  if (status) {
    found.status = parse_status<Status>(*status);
    found.status_sequence = status->sequence;
  }
  return found;
}

std::optional<Matter> StreamInspector::get(const Identity& identity) {
  Found found = find(identity);
  if (is_nothing(found)) return std::nullopt;
  return make_matter(identity, std::move(found), work_created(), true);
}

std::string StreamInspector::work_created() {
  return streams_.work->state().created;  // it may have been created again
}

std::vector<Refused> StreamInspector::refused() {
  std::vector<Refused> all;
  transport::scan(*streams_.status, streams_.names.status_filter("refused"), [&](Message message) {
    const std::optional<Refusal> refusal = parse_status<Refusal>(message);
    if (!refusal) return;
    all.push_back({refusal->what, refusal->subject, Sequence{refusal->sequence},
                   refusal->error_code, refusal->error, from_unix_ms(refusal->at),
                   std::string(streams_.names.status_key(message.subject))});
  });
  return all;
}

std::vector<LastReport> StreamInspector::reports(std::string_view kind) {
  if (!kind.empty()) check_name(kind, "kind");
  std::vector<LastReport> all;
  transport::scan(*streams_.reports, streams_.names.report_filter(kind), [&](Message message) {
    const auto parts = wire::split_report(message.subject);
    if (!parts) return;
    LastReport report;
    report.kind = parts->kind;
    report.device = decode_id(parts->device).value_or(std::string(parts->device));
    report.state = std::move(message.payload);
    report.sequence = message.sequence;
    report.at = message.stored_at;
    all.push_back(std::move(report));
  });
  std::sort(all.begin(), all.end(), [](const LastReport& a, const LastReport& b) {
    return std::tie(a.kind, a.device) < std::tie(b.kind, b.device);
  });
  return all;
}

std::vector<Shadow> StreamInspector::shadows(std::string_view kind) {
  if (!kind.empty()) check_name(kind, "kind");
  require(streams_.shadows != nullptr, code::stream_missing,
          fmt::format("stream {} does not exist", streams_.names.shadows(1).name));
  std::vector<Shadow> all;
  transport::scan(*streams_.shadows, streams_.names.shadow_filter(kind), [&](Message message) {
    const auto parts = wire::split_device(message.subject, "shadow");
    if (!parts || message.payload.empty()) return;
    Shadow shadow;
    shadow.kind = parts->kind;
    shadow.device = decode_id(parts->device).value_or(std::string(parts->device));
    shadow.revision = message.sequence;
    shadow.at = message.stored_at;
    shadow.from = message.header(wire::kFrom).value_or("");
    shadow.document = std::move(message.payload);
    all.push_back(std::move(shadow));
  });
  std::sort(all.begin(), all.end(), [](const Shadow& a, const Shadow& b) {
    return std::tie(a.kind, a.device) < std::tie(b.kind, b.device);
  });
  return all;
}

std::vector<LeaseInfo> StreamInspector::leases() {
  LeaseSurvey survey(streams_.names);
  transport::scan(*streams_.leases, streams_.names.lease_filter({}),
                  [&](const Message& message) { survey.take(message); });
  transport::scan(
      *streams_.leases, streams_.names.beat_subject("*"),
      [&](const Message& message) { survey.take_beat(message); }, true);
  return survey.result();
}

void StreamInspector::watch(std::string_view type, std::stop_token stop,
                            const std::function<void(const Change&)>& visit) {
  internal::watch(streams_, type, stop, visit);
}

void StreamInspector::watch_parked(std::string_view type, std::stop_token stop,
                                   const std::function<void(const Change&)>& visit) {
  internal::watch_parked(streams_, type, stop, visit);
}

std::vector<HistoryLoss> StreamInspector::losses() {
  const auto kept = transport::last(*streams_.status, streams_.names.status_subject(kHistoryKey));
  const auto record = kept ? parse_history(*kept) : std::nullopt;
  std::vector<HistoryLoss> losses;
  if (!record) return losses;
  for (const FoundLoss& loss : record->last) {
    losses.push_back({loss.stream, loss.reason, from_unix_ms(loss.at)});
  }
  return losses;
}

bool StreamInspector::purge(const Identity& identity) {
  const Found found = find(identity);
  const std::string key = key_of(identity);
  bool any = false;
  // The token first, so that no run writes the entry again behind our back.
  if (found.token) any = transport::erase(*streams_.work, found.token->sequence);
  if (found.entry && !wire::is_removed(*found.entry)) {
    transport::Headers headers{{std::string(wire::kKvOperation), "DEL"}};
    if (found.token) {  // if a crash of the server brings the token back, it counts as done
      headers.emplace_back(wire::kDone, wire::format_done({work_created(), found.token->sequence}));
    }
    transport::publish(*streams_.cache,
                       {.subject = streams_.names.entry_subject(key),
                        .headers = std::move(headers),
                        .payload = {},
                        .expected_last = {}},
                       limits::publish_deadline);
    any = true;
  }
  if (found.status_sequence) {
    any = transport::erase(*streams_.status, found.status_sequence) || any;
  }
  return any;
}

bool StreamInspector::drop(const Identity& identity) {
  const Found found = find(identity);
  // News that came since are not given up with the old ones.
  const bool parked = found.status && found.status->phase == "parked" && found.token &&
                      found.token->sequence.value == found.status->token;
  // A stream that was made anew counts from one again. It is asked, because it may be so since its
  // time was last seen.
  if (!parked || found.status->created != streams_.work->state().created) return false;
  const bool gone = transport::erase(*streams_.work, found.token->sequence);
  transport::erase(*streams_.status, found.status_sequence);
  return gone;
}

bool StreamInspector::drop(const Refused& refused) {
  if (refused.what == "view") return false;
  const std::string key = refused.key.starts_with("refused.")
                              ? refused.key
                              : refusal_key(refused.what, refused.subject);
  if (refused.what == "token") {
    // The sequence is what somebody wrote into the bucket: nothing else may go on its word, and no
    // news that can be read.
    const auto token = transport::last(
        *streams_.work, refused_subject(key, streams_.names.ns()).value_or(refused.subject));
    if (token && token->sequence == refused.sequence && !is_readable(*token)) {
      transport::erase(*streams_.work, refused.sequence);
    }
  }
  const auto lies = transport::last(*streams_.status, streams_.names.status_subject(key));
  return lies && transport::erase(*streams_.status, lies->sequence);
}

void StreamInspector::survey_readers(Survey& survey,
                                     std::vector<transport::ConsumerState> StreamSurvey::*readers) {
  for (StreamSurvey& one : survey.streams) {
    if (!one.state) continue;
    try {
      one.*readers = streams_.transport->consumers(one.name);
    } catch (const Error& error) {
      // Each further question would wait as long for no answer.
      one.readers_error = error.message();
      return;
    }
  }
}

void StreamInspector::survey_workers(Survey& survey) {
  survey.version = engine::version();
  survey.asked_workers = streams_.transport->messenger() != nullptr;
  if (survey.asked_workers) survey.workers = call_roll(streams_, limits::roll_call);
  if (!survey.streams.back().state) return;
  try {
    survey.server_ahead = streams_.transport->clock_ahead(survey.streams.back().name);
  } catch (const Error& error) {
    streams_.log.info("the clock of the server is not known", {{"error", error.message()}});
  }
}

std::vector<Finding> StreamInspector::diagnose() {
  Survey survey;
  survey.facts = server();
  survey.exposed = exposed_;
  const wire::Names& names = streams_.names;
  std::vector<std::pair<std::string, std::shared_ptr<transport::Stream>>> known = {
      {names.work(1).name, streams_.work},
      {names.cache(1).name, streams_.cache},
      {names.status(1).name, streams_.status},
      {names.reports(1).name, streams_.reports},
  };
  if (streams_.shadows) known.emplace_back(names.shadows(1).name, streams_.shadows);
  known.emplace_back(names.leases(1).name, streams_.leases);
  for (const auto& [name, stream] : known) {
    StreamSurvey& one = survey.streams.emplace_back();
    one.name = name;
    try {
      one.state = stream->state();
    } catch (const Error& error) {
      one.error = error.what();
      one.remedy = error.remedy();
    }
  }
  if (survey.streams.back().state) survey.leases = leases();
  if (survey.streams[2].state) survey.losses = losses();
  survey_readers(survey, &StreamSurvey::readers_before);
  survey_workers(survey);
  survey_readers(survey, &StreamSurvey::readers);
  survey.now = internal::SystemClock::now();
  return internal::diagnose(survey);
}

std::vector<transport::StreamState> StreamInspector::streams() {
  std::vector<transport::StreamState> states = {streams_.work->state(), streams_.cache->state(),
                                                streams_.status->state(), streams_.reports->state(),
                                                streams_.leases->state()};
  if (streams_.shadows) states.push_back(streams_.shadows->state());
  return states;
}

}  // namespace

std::unique_ptr<Inspector> make_inspector(const Streams& streams) {
  return make_inspector(streams, {});
}

std::unique_ptr<Inspector> make_inspector(const Streams& streams,
                                          std::vector<std::string> exposed) {
  return std::make_unique<StreamInspector>(streams, std::move(exposed));
}

}  // namespace dmm::internal
