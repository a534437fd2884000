// The part of the scene that looks: what the server stores, what is not settled, what is too much.

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "dmm/identity.h"
#include "dmm/internal/status.h"
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

/// False if it is of something else than what is failing or parked.
bool read_status(Stored& stored) {
  const auto value = parse_json(stored.payload);
  if (!value.ok() || !value.value().is_object() || !value.value().contains("phase")) return false;
  const auto status = value.value().get<internal::Status>();
  if (status.phase != "parked" && status.phase != "failing") return false;
  stored.where = status.phase == "parked" ? Stored::Where::parked : Stored::Where::failing;
  stored.news = status.token;
  stored.payload = status.error_code;
  stored.attempts = status.attempts;
  if (status.next_retry_at > 0)
    stored.delay = milliseconds(status.next_retry_at - status.failed_at);
  return true;
}

/// As losses call it; empty: it is none of the namespace.
std::string_view stream_of(Stored::Where where) {
  switch (where) {
    case Stored::Where::work:
      return "work";
    case Stored::Where::cache:
      return "cache";
    case Stored::Where::reports:
      return "reports";
    case Stored::Where::status:
      return "status";
    case Stored::Where::leases:
      return "leases";
    default:
      return {};
  }
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
    case Stored::Where::failing:
      return "failing:";
    case Stored::Where::leases:
    case Stored::Where::status:
    case Stored::Where::desired:
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
  } else if (message.subject.starts_with(kStatus)) {
    stored.key = message.subject.substr(kStatus.size());
    if (!read_status(stored)) return;
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
    const auto identity = parse_key(key);
    const std::string text = differs(server_, key, known, identity && doomed(*identity));
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

/// The world does not let it succeed.
bool Scene::doomed(const Identity& identity) const {
  return nature_of(identity) != Nature::good;
}

/// What is left behind when all is done.
void Scene::check_bounds() {
  const auto types =
      static_cast<std::size_t>(1 + (plan_.meters > 0) + (plan_.lamps > 0) + (plan_.valves > 0));
  check_left(server_, {.workers = plan_.workers, .types = types, .lives = lives_.size()},
             verdict_.violations);
  for (const Place& place : places_) {
    if (place.life == nullptr) continue;
    for (const WorkStream* work : place.life->bucket().work_streams()) {
      const WorkStats stats = work->stats();
      check_most("identities in a worker", stats.ready + stats.running + stats.retrying, 0,
                 verdict_.violations);
    }
  }
}

/// What was lost as a whole was noticed, and is said.
void Scene::check_losses() {
  std::set<std::string> said;
  for (const HistoryLoss& loss : hand_->inspect().losses()) said.insert(loss.stream);
  for (const Loss& loss : journal_.losses) {
    const std::string name(stream_of(loss.where));
    if (!loss.whole || name.empty() || said.contains(name)) continue;
    violate("history", fmt::format("the loss of the stream of the {} at {} was never said", name,
                                   seconds(loss.at)));
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
  check_attempts(journal_, found);
  check_absence(journal_, found);
  check_rows(journal_, found);
  // What is set may be lost, and be set again.
  if (!journal_.lost(Stored::Where::status)) check_pace(journal_, found);
  if (!calm_) return;
  check_coalescing(journal_, found);
  check_exactness(journal_, found);
  check_news(journal_, found);
  check_poison(journal_, found);
  check_alive(journal_, known_.size(), found);
}

Verdict simulate(const Plan& plan, const RunOptions& options) {
  Scene scene(plan, options);
  return scene.play();
}

}  // namespace dmm::simulation
