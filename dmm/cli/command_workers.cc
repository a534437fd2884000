// workers, lanes, log-level: who works here, as the workers say themselves, and what they log.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <bitset>
#include <map>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Namespace";

using std::chrono::milliseconds;

// "0-31,40".
std::string ranges(const std::vector<std::uint32_t>& lanes) {
  std::string text;
  for (std::size_t i = 0; i < lanes.size();) {
    std::size_t end = i;
    while (end + 1 < lanes.size() && lanes[end + 1] == lanes[end] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", lanes[i]);
    if (end > i) text += fmt::format("-{}", lanes[end]);
    i = end + 1;
  }
  return text;
}

// "a, b (standby)".
std::string names_of(const std::vector<WorkerPart>& parts) {
  std::string text;
  for (const WorkerPart& part : parts) {
    text +=
        fmt::format("{}{}{}", text.empty() ? "" : ", ", part.name, part.active ? "" : " (standby)");
  }
  return text;
}

std::string place_of(const WorkerInfo& worker) {
  return fmt::format("{}:{}", worker.host, worker.pid);
}

nlohmann::json document_of(const WorkerInfo& worker) {
  nlohmann::json document = worker.answer;
  document["started_at"] = rfc3339(worker.started_at);
  document["answered_in_ms"] = static_cast<double>(worker.answered_in.count()) / 1'000;
  return document;
}

std::vector<WorkerInfo> ask(Session& session, int timeout_ms) {
  Bucket bucket = session.open();
  return bucket.workers(milliseconds(timeout_ms));
}

int workers(Session& session, int timeout_ms) {
  const std::vector<WorkerInfo> found = ask(session, timeout_ms);
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const WorkerInfo& worker : found) documents.push_back(document_of(worker));
    session.show(documents);
    return exit_code::ok;
  }
  if (found.empty()) {
    if (session.terminal().interactive) session.say("no worker answers here");
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "WORKER"},
               {.title = "WHERE", .flexible = true},
               {.title = "STARTED"},
               {.title = "STATE", .flexible = true},
               {.title = "TYPES", .flexible = true},
               {.title = "VIEWS AND OBSERVERS", .flexible = true},
               {.title = "VERSION"}});
  for (const WorkerInfo& worker : found) {
    std::string types;
    for (const WorkerType& type : worker.types) {
      types += fmt::format("{}{} {}/{}", types.empty() ? "" : ", ", type.type, type.lanes.size(),
                           limits::lanes);
    }
    std::vector<WorkerPart> parts = worker.views;
    parts.insert(parts.end(), worker.observers.begin(), worker.observers.end());
    const bool ready = worker.not_ready.empty();
    table.add({{worker.name},
               {place_of(worker)},
               {human_age(worker.started_at, now)},
               {ready ? "ready" : fmt::format("{}", fmt::join(worker.not_ready, "; ")),
                ready ? Color::green : Color::yellow},
               {types},
               {names_of(parts)},
               {worker.version}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

// The share of one worker in one type. No worker: lanes that nobody owns.
struct Share {
  const WorkerInfo* worker = nullptr;
  WorkerType type;
};

// By type, with the lanes that no worker says it owns behind the others.
std::vector<Share> shares_of(const std::vector<WorkerInfo>& workers, const std::string& only) {
  std::map<std::string, std::vector<Share>> by_type;
  for (const WorkerInfo& worker : workers) {
    for (const WorkerType& type : worker.types) {
      if (only.empty() || type.type == only) by_type[type.type].push_back({&worker, type});
    }
  }
  std::vector<Share> all;
  for (auto& [type, shares] : by_type) {
    std::bitset<limits::lanes> owned;
    for (Share& share : shares) {
      for (const std::uint32_t lane : share.type.lanes) owned.set(lane);
      all.push_back(std::move(share));
    }
    if (owned.all()) continue;
    Share nobody;
    nobody.type.type = type;
    for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
      if (!owned.test(lane)) nobody.type.lanes.push_back(lane);
    }
    all.push_back(std::move(nobody));
  }
  return all;
}

nlohmann::json document_of(const Share& share) {
  nlohmann::json document = {
      {"type", share.type.type}, {"lanes", share.type.lanes}, {"worker", nullptr}, {"id", nullptr}};
  if (share.worker == nullptr) return document;
  document["worker"] = share.worker->name;
  document["id"] = share.worker->id;
  document["host"] = share.worker->host;
  document["pid"] = share.worker->pid;
  document["lanes_wanted"] = share.type.lanes_wanted;
  document["waiting"] = share.type.waiting;
  document["running"] = share.type.running;
  document["parked"] = share.type.parked;
  document["oldest_ms"] = share.type.oldest.count();
  document["paused"] = share.type.paused;
  return document;
}

std::vector<Table::Cell> row_of(const Share& share) {
  if (share.worker == nullptr) {
    return {{share.type.type},
            {"nobody", Color::red},
            {std::to_string(share.type.lanes.size())},
            {""},
            {""},
            {""},
            {""},
            {""},
            {ranges(share.type.lanes)}};
  }
  const WorkerType& type = share.type;
  const bool short_of = type.lanes.size() < type.lanes_wanted;
  return {{type.type},
          {fmt::format("{} {}", share.worker->name, place_of(*share.worker))},
          {std::to_string(type.lanes.size()), short_of ? Color::yellow : Color::none},
          {std::to_string(type.lanes_wanted)},
          {human_count(type.waiting)},
          {human_count(type.running)},
          {human_count(type.parked), type.parked > 0 ? Color::red : Color::none},
          {type.oldest.count() > 0 ? human_duration(type.oldest) : ""},
          {ranges(type.lanes)}};
}

int lanes(Session& session, const std::string& only, int timeout_ms) {
  const std::vector<WorkerInfo> found = ask(session, timeout_ms);
  const std::vector<Share> shares = shares_of(found, only);
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Share& share : shares) documents.push_back(document_of(share));
    session.show(documents);
    return exit_code::ok;
  }
  if (shares.empty()) {
    if (session.terminal().interactive) session.say("no worker answers that works on a type here");
    return exit_code::ok;
  }
  Table table({{.title = "TYPE"},
               {.title = "WORKER", .flexible = true},
               {.title = "LANES", .number = true},
               {.title = "WANTED", .number = true},
               {.title = "WAITING", .number = true},
               {.title = "RUNNING", .number = true},
               {.title = "PARKED", .number = true},
               {.title = "OLDEST", .number = true},
               {.title = "WHICH", .flexible = true}});
  for (const Share& share : shares) table.add(row_of(share));
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

struct LogLevelOptions {
  std::string level;  ///< empty: only look
  std::string worker;
  double for_s = std::chrono::duration<double>(limits::log_level_for).count();
  int timeout_ms = static_cast<int>(milliseconds(limits::roll_call).count());
};

constexpr const char* kReset = "reset";

std::vector<WorkerInfo> told(Session& session, const LogLevelOptions& options) {
  const milliseconds timeout(options.timeout_ms);
  Bucket bucket = session.open();
  if (options.level.empty()) {
    std::vector<WorkerInfo> found = bucket.workers(timeout);
    std::erase_if(found, [&](const WorkerInfo& worker) {
      return !options.worker.empty() && options.worker != worker.id &&
             options.worker != worker.name && options.worker != place_of(worker);
    });
    return found;
  }
  LogLevelOrder order;
  order.worker = options.worker;
  if (options.level == kReset) {
    order.duration = milliseconds(0);
  } else {
    order.level = level_of(options.level).value_or(Level::info);
    order.duration = milliseconds(static_cast<std::int64_t>(options.for_s * 1'000));
  }
  return bucket.set_log_level(order, timeout);
}

int log_level(Session& session, const LogLevelOptions& options) {
  const std::vector<WorkerInfo> found = told(session, options);
  // Whoever changes something wants to know that it was heard.
  if (found.empty() && !(options.level.empty() && options.worker.empty())) {
    throw Error(code::not_found,
                options.worker.empty()
                    ? "no worker answers"
                    : fmt::format("no worker called {} answers", printable(options.worker, 100)));
  }
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const WorkerInfo& worker : found) {
      documents.push_back({{"worker", worker.name},
                           {"id", worker.id},
                           {"host", worker.host},
                           {"pid", worker.pid},
                           {"level", nullptr},
                           {"until", nullptr}});
      if (worker.log_level) documents.back()["level"] = to_string(*worker.log_level);
      if (worker.log_level_until) documents.back()["until"] = rfc3339(*worker.log_level_until);
    }
    session.show(documents);
    return exit_code::ok;
  }
  if (found.empty()) {
    if (session.terminal().interactive) session.say("no worker answers here");
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "WORKER"},
               {.title = "WHERE", .flexible = true},
               {.title = "LEVEL"},
               {.title = "AS CONFIGURED"}});
  for (const WorkerInfo& worker : found) {
    const bool otherwise = worker.log_level_until.has_value();
    table.add({{worker.name},
               {place_of(worker)},
               {worker.log_level ? std::string(to_string(*worker.log_level)) : "",
                otherwise ? Color::yellow : Color::none},
               {otherwise ? human_age(worker.log_level_until, now) : "now"}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

void add_log_level_command(Program& program) {
  auto options = std::make_shared<LogLevelOptions>();
  CLI::App* verb = program.add_verb(
      "log-level", "Show what workers log, or have them log otherwise for a while", kGroup,
      {"dmm log-level                             what each of them logs",
       "dmm log-level debug                       all of them, for 15 minutes",
       "dmm log-level debug --worker rack-7:4711 --for 2h   one of them",
       "dmm log-level reset                       as they are configured, now"},
      [options](Session& session) { return log_level(session, *options); });
  verb->add_option("level", options->level, "debug, info, warn or error; reset: as configured")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", kReset}))
      ->type_name("LEVEL");
  verb->add_option("--worker", options->worker,
                   "Only this one: HOST:PID or NAME as `dmm workers` shows them, or an id")
      ->type_name("WORKER");
  verb->add_option("--for", options->for_s, "How long; at most 24h")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"s", 1}, {"m", 60}, {"min", 60}, {"h", 3'600}},
          CLI::AsNumberWithUnit::CASE_SENSITIVE, "SECONDS"))
      ->check(CLI::Range(1.0, std::chrono::duration<double>(limits::log_level_for_max).count()))
      ->type_name("SECONDS|5m|2h")
      ->default_str("15m");
  verb->add_option("--timeout", options->timeout_ms, "Milliseconds in which workers have to answer")
      ->check(CLI::Range(10, 60'000))
      ->type_name("MS")
      ->capture_default_str();
}

void add_timeout(CLI::App& verb, const std::shared_ptr<int>& timeout_ms) {
  verb.add_option("--timeout", *timeout_ms, "Milliseconds in which workers have to answer")
      ->check(CLI::Range(10, 60'000))
      ->type_name("MS")
      ->capture_default_str();
}

}  // namespace

void add_workers_commands(Program& program) {
  const int usual = static_cast<int>(milliseconds(limits::roll_call).count());
  auto timeout_ms = std::make_shared<int>(usual);
  CLI::App* verb =
      program.add_verb("workers", "Ask every worker who it is and how it does", kGroup,
                       {"dmm workers                   who works here, and whether it is ready",
                        "dmm workers -o json | jq -r '.[] | select(.not_ready != []) | .name'"},
                       [timeout_ms](Session& session) { return workers(session, *timeout_ms); });
  add_timeout(*verb, timeout_ms);

  auto type = std::make_shared<std::string>();
  auto lanes_timeout_ms = std::make_shared<int>(usual);
  verb = program.add_verb(
      "lanes", "Show which worker has which part of a type", kGroup,
      {"dmm lanes                     of every type",
       "dmm lanes player              what waits, runs and is parked at each worker"},
      [type, lanes_timeout_ms](Session& session) {
        return lanes(session, *type, *lanes_timeout_ms);
      });
  verb->add_option("type", *type, "Only this type")->type_name("TYPE");
  add_timeout(*verb, lanes_timeout_ms);
  add_log_level_command(program);
}

}  // namespace dmm::cli
