// The part of the scene that looks: what the server stores, what is not settled, what is too much.

#include <fmt/format.h>

#include <charconv>

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/testing/internal/backstage.h"
#include "dmm/wire.h"
#include "tests/simulation/scene.h"

namespace dmm::simulation {

using nlohmann::json;

namespace {

constexpr std::string_view kEntries = "$KV.dmm_sim.";
constexpr std::string_view kStatus = "$KV.dmm_sim_status.";
constexpr std::string_view kCursor = "observer.cursor.";

std::uint64_t number_in(const transport::Message& message, std::string_view header) {
  std::uint64_t number = 0;
  const std::string_view text = message.header(header).value_or("");
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::uint64_t number_in(const std::string& payload, const char* member) {
  const auto value = parse_json(payload);
  if (!value.ok() || !value.value().is_object()) return 0;
  return value.value().value(member, std::uint64_t{0});
}

std::string text_in(const std::string& payload, const char* member) {
  const auto value = parse_json(payload);
  if (!value.ok() || !value.value().is_object()) return {};
  const auto found = value.value().find(member);
  return found != value.value().end() && found->is_string() ? found->get<std::string>() : "";
}

std::string_view name_of(Stored::Where where) {
  switch (where) {
    case Stored::Where::work:
      return "token";
    case Stored::Where::cache:
      return "entry";
    case Stored::Where::reports:
      return "report";
    case Stored::Where::cursor:
      return "cursor";
    case Stored::Where::parked:
      return "parked:";
    case Stored::Where::leases:
    case Stored::Where::status:
      break;
  }
  return {};
}

}  // namespace

/// With the server's mutex held.
void Scene::witness(const transport::Message& message) {
  Stored stored;
  stored.at = now();
  stored.sequence = message.sequence.value;
  stored.news = number_in(message.payload, "news");
  stored.epoch = number_in(message, wire::kEpoch);
  stored.payload = message.payload;
  if (const auto token = wire::split_token(message.subject)) {
    stored.where = Stored::Where::work;
    stored.key = fmt::format("{}.{}", token->type, token->id);
    stored.deleted = message.header(wire::kDeleted).has_value();
    stored.of_view = message.header(wire::kView).has_value();
  } else if (const auto report = wire::split_report(message.subject)) {
    stored.where = Stored::Where::reports;
    stored.key = report->device;
  } else if (message.subject.starts_with(kEntries)) {
    stored.where = Stored::Where::cache;
    stored.key = message.subject.substr(kEntries.size());
    stored.deleted = wire::is_removed(message);
  } else if (message.subject.starts_with(kStatus) &&
             std::string_view(message.subject).substr(kStatus.size()).starts_with(kCursor)) {
    stored.where = Stored::Where::cursor;
    stored.news = number_in(message.payload, "sequence");
  } else if (message.subject.starts_with(kStatus) &&
             text_in(message.payload, "phase") == "parked") {
    stored.where = Stored::Where::parked;
    stored.key = message.subject.substr(kStatus.size());
    stored.news = number_in(message.payload, "token");
    stored.payload = text_in(message.payload, "error_code");
  } else {
    return;
  }
  if (options_.history && stored.where != Stored::Where::reports) {
    note(fmt::format("stored: {} {} of {}, sequence {}{}{}", name_of(stored.where), stored.key,
                     stored.news, stored.sequence,
                     stored.epoch > 0 ? fmt::format(", epoch {}", stored.epoch) : "",
                     stored.deleted ? ", removed" : ""));
  }
  journal_.stored.push_back(std::move(stored));
}

/// What is not done yet, in words; empty if all is.
std::string Scene::unsettled() {
  for (const auto& speaker : speakers_) {
    if (!speaker->silent()) return "not all was said";
  }
  testing::MemoryCore& core = testing::Backstage::of(server_);
  const wire::Names names("sim");
  const auto work = core.state(names.work(1).name);
  for (const auto& [key, known] : known_) {
    const std::string text = differs(key, known);
    if (text.empty()) continue;
    return fmt::format("{}; {} tokens are left", text, work ? work->messages : 0);
  }
  for (const std::string& subject : core.subjects(names.work(1).name, ">")) {
    const auto token = wire::split_token(subject);
    if (token && doomed({std::string(token->type), std::string(token->id)})) continue;
    return fmt::format("{} tokens are left, for example {}", work ? work->messages : 0, subject);
  }
  return {};
}

/// Its newest token is.
bool Scene::parked(const Identity& identity) const {
  const wire::Names names("sim");
  const auto token = server_.look(names.token_subject(identity));
  const auto status = server_.look(names.status_subject(key_of(identity)));
  return token && status && text_in(status->payload, "phase") == "parked" &&
         number_in(status->payload, "token") == token->sequence.value;
}

/// The world does not let it succeed.
bool Scene::doomed(const Identity& identity) const {
  return identity.type == "valve" && valves_.at(std::stoul(identity.id)).nature != Nature::good;
}

std::string Scene::differs(const std::string& key, const Known& known) const {
  const auto identity = parse_key(key);
  if (identity && doomed(*identity) && server_.look(wire::Names("sim").token_subject(*identity))) {
    return parked(*identity) ? "" : fmt::format("{} cannot succeed and is not parked", key);
  }
  const auto entry = server_.look(wire::Names("sim").entry_subject(key));
  const bool there = entry && !wire::is_removed(*entry);
  // What was said last may have been stored though nobody said so.
  if (known.acknowledged == 0) return {};
  if (!there) {
    if (known.gone) return {};
    return fmt::format("{} has no entry, and {} was acknowledged", key, known.acknowledged);
  }
  const std::uint64_t news = number_in(entry->payload, "news");
  const std::uint64_t done = number_in(entry->payload, "done");
  if (known.gone && known.acknowledged == known.news) {
    return fmt::format("{} was removed by {}, and its entry is {}", key, known.news,
                       entry->payload);
  }
  if (news >= known.acknowledged && done == news) return {};
  return fmt::format("the entry of {} is {}, and {} was acknowledged", key, entry->payload,
                     known.acknowledged);
}

/// What is left behind when all is done.
void Scene::check_bounds() {
  testing::MemoryCore& core = testing::Backstage::of(server_);
  const wire::Names names("sim");
  const auto types =
      static_cast<std::size_t>(1 + (plan_.meters > 0) + (plan_.lamps > 0) + (plan_.valves > 0));
  const auto at_most = [&](const std::string& what, std::size_t count, std::size_t limit) {
    if (count <= limit) return;
    violate("bounded", fmt::format("{} {} are left, at most {} were expected", count, what, limit));
  };
  const std::size_t each = plan_.workers * types;
  at_most("readers of the work", core.readers(names.work(1).name), each + 1);
  at_most("readers of the cache", core.readers(names.cache(1).name), 0);
  // An observer that lost its lease keeps its place in the reports, should it get it back.
  at_most("readers of the reports", core.readers(names.reports(1).name), plan_.workers);
  at_most("readers of the leases", core.readers(names.leases(1).name), each);
  at_most("readers of the status", core.readers(names.status(1).name), each + 1);
  for (const char* type : {"job", "valve"}) {
    for (const std::string& subject :
         core.subjects(names.status(1).name, names.status_filter(type))) {
      const auto status = server_.look(subject);
      violate("bounded",
              fmt::format("a status is left: {} {}", subject, status ? status->payload : ""));
    }
  }
  const auto leases = core.state(names.leases(1).name);
  // Lanes, also of an epoch that is over and whose end was not heard, and the group of each type,
  // its seats and beats, those of the dead for a minute, and what else is leased.
  at_most("messages of leases", leases ? leases->messages : 0,
          types * (2 * limits::lanes + 6) + lives_.size() * (types * 2 + 4) + 10);
  for (const Place& place : places_) {
    if (place.life == nullptr) continue;
    for (const WorkStream* work : place.life->bucket().work_streams()) {
      const WorkStats stats = work->stats();
      at_most("identities in a worker", stats.ready + stats.running + stats.retrying, 0);
    }
  }
}

void Scene::check_all() {
  for (const auto& life : lives_) {
    if (life->failure().empty()) continue;
    violate("ended", fmt::format("life {} ended by itself: {}", life->number(), life->failure()));
  }
  std::vector<Violation>& found = verdict_.violations;
  check_overlaps(journal_, found);
  check_zombies(journal_, found);
  check_stale_writes(journal_, found);
  check_cursor(journal_, found);
  check_parking(journal_, found);
  check_pauses(journal_, found);
  // What is set may be lost, and be set again.
  if (!journal_.lost(Stored::Where::status)) check_pace(journal_, found);
  if (!calm_) return;
  check_coalescing(journal_, found);
  check_exactness(journal_, found);
  std::size_t said = 0;
  std::size_t unanswered = 0;
  for (const Said& one : journal_.said) {
    if (one.begin < journal_.calm) continue;
    ++said;
    unanswered += one.acknowledged ? 0 : 1;
  }
  if (said == 0 || unanswered > 0) {
    violate("alive", fmt::format("{} of {} calls were not answered though nothing failed",
                                 unanswered, said));
  }
  if (verdict_.runs < known_.size()) {
    violate("alive",
            fmt::format("only {} runs of {} identities succeeded", verdict_.runs, known_.size()));
  }
}

Verdict simulate(const Plan& plan, const RunOptions& options) {
  Scene scene(plan, options);
  return scene.play();
}

}  // namespace dmm::simulation
