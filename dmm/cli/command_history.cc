// history, diff: what became of one identity, and what is about to.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

#include "dmm/cli/bulk.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Look";

Matter find(Bucket& bucket, const Identity& identity) {
  check(identity);
  auto matter = bucket.inspect().get(identity);
  if (!matter) {
    throw Error(code::not_found,
                fmt::format("{} is not in namespace {}", name_of(identity), bucket.ns()));
  }
  return *std::move(matter);
}

void add_one(CLI::App* verb, Identity& identity) {
  verb->add_option("type", identity.type, "Type")->required()->type_name("TYPE");
  verb->add_option("id", identity.id, "Id, as its owner spells it")->required()->type_name("ID");
}

// ---- history

/// Something that is known to have happened, or is to happen.
struct Event {
  std::optional<Time> at;
  std::string what;
  std::uint64_t revision = 0;  ///< of the entry or the token; 0: none
  std::string error_code;
  std::string text;
};

std::vector<Event> events_of(const Matter& matter) {
  std::vector<Event> events;
  if (matter.revision.value > 0) {
    events.push_back({matter.stored_at, "stored", matter.revision.value, "",
                      matter.view.empty()
                          ? "a run succeeded"
                          : fmt::format("a run on view {} succeeded", matter.view)});
  }
  if (matter.token.value > 0) {
    events.push_back({matter.notified_at, matter.deleted ? "removal" : "news", matter.token.value,
                      "", "waits for a run that succeeds"});
  }
  for (const Failure& failure : matter.failures) {
    events.push_back({failure.at, fmt::format("failure {}", failure.attempt), failure.token.value,
                      failure.error_code, failure.error});
  }
  const bool told = !matter.failures.empty() || matter.error_code.empty();
  if (!told) {
    events.push_back(
        {matter.failed_at, "failure", matter.token.value, matter.error_code, matter.error});
  }
  if (matter.phase == Phase::parked) {
    events.push_back({matter.failed_at, "parked", matter.token.value, matter.error_code,
                      "given up until news or `dmm parked retry`"});
  }
  if (matter.next_retry_at) {
    events.push_back({matter.next_retry_at, "next run", matter.token.value, "", ""});
  }
  std::ranges::stable_sort(events, {}, &Event::at);
  return events;
}

int history(Session& session, const Identity& identity) {
  Bucket bucket = session.open();
  const std::vector<Event> events = events_of(find(bucket, identity));
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Event& event : events) {
      nlohmann::json document{{"at", nullptr}, {"what", event.what}, {"revision", nullptr}};
      if (event.at) document["at"] = rfc3339(*event.at);
      if (event.revision > 0) document["revision"] = event.revision;
      document["error_code"] = event.error_code;
      document["text"] = event.text;
      documents.push_back(std::move(document));
    }
    session.show(documents);
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "WHEN"},
               {.title = "WHAT"},
               {.title = "REVISION", .number = true},
               {.title = "CODE"},
               {.title = "TEXT", .flexible = true}});
  for (const Event& event : events) {
    table.add({{human_age(event.at, now)},
               {event.what, event.error_code.empty() ? Color::none : Color::yellow},
               {event.revision == 0 ? "" : std::to_string(event.revision)},
               {event.error_code},
               {event.text}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

// ---- diff

/// One of the values that are kept of an identity.
struct Version {
  std::string name;
  std::uint64_t revision = 0;
  const std::optional<std::string>* text = nullptr;
};

struct DiffOptions {
  Identity identity;
  std::string from = "stored";
  std::string to = "next";
};

Version version_of(const Matter& matter, const std::string& name) {
  const Version stored{"stored", matter.revision.value, &matter.stored};
  const Version next{"next", std::max(matter.token.value, matter.revision.value),
                     &matter.effective};
  if (name == stored.name || name == std::to_string(stored.revision)) return stored;
  if (name == next.name || name == std::to_string(matter.token.value)) return next;
  throw Error(
      code::not_found,
      fmt::format("revision {} of {} is not kept; there are \"stored\" ({}) and \"next\" "
                  "({})",
                  printable(name, 40), name_of(matter.identity), stored.revision, next.revision));
}

nlohmann::json value_of(const Matter& matter, const Version& version) {
  const std::optional<std::string>& text = *version.text;
  if (!text) return nullptr;
  auto value = parse_json(*text);
  if (!value.ok()) {
    throw Error(value.error().code(),
                fmt::format("the value \"{}\" of {}: {}", version.name, name_of(matter.identity),
                            value.error().message()));
  }
  return std::move(value).value();
}

std::string shown(const nlohmann::json& value) {
  return printable(json_text(value, false), 4'000);
}

void show_patch(Session& session, const nlohmann::json& from, const nlohmann::json& patch) {
  for (const nlohmann::json& step : patch) {
    const std::string path = step.at("path").get<std::string>();
    const std::string place = path.empty() ? "(all)" : printable(path, 1'000);
    const nlohmann::json::json_pointer pointer(path);
    if (step.at("op") != "add") {
      session.say(session.terminal().paint(
          fmt::format("- {}: {}", place, shown(from.contains(pointer) ? from.at(pointer) : from)),
          Color::red));
    }
    if (step.at("op") != "remove") {
      session.say(session.terminal().paint(fmt::format("+ {}: {}", place, shown(step.at("value"))),
                                           Color::green));
    }
  }
}

int diff(Session& session, const DiffOptions& options) {
  Bucket bucket = session.open();
  const Matter matter = find(bucket, options.identity);
  const Version from = version_of(matter, options.from);
  const Version to = version_of(matter, options.to);
  const nlohmann::json before = value_of(matter, from);
  const nlohmann::json after = value_of(matter, to);
  const nlohmann::json patch = nlohmann::json::diff(before, after);
  if (session.json()) {
    session.show({{"from", {{"name", from.name}, {"revision", from.revision}}},
                  {"to", {{"name", to.name}, {"revision", to.revision}}},
                  {"removal", matter.deleted},
                  {"patch", patch}});
    return exit_code::ok;
  }
  if (matter.deleted) session.say("it is to be removed");
  if (patch.empty()) {
    session.say(fmt::format("{} ({}) and {} ({}) are the same", from.name, from.revision, to.name,
                            to.revision));
    return exit_code::ok;
  }
  session.say(session.terminal().paint(
      fmt::format("{} ({}) to {} ({})", from.name, from.revision, to.name, to.revision),
      Color::bold));
  show_patch(session, before, patch);
  return exit_code::ok;
}

}  // namespace

void add_history_commands(Program& program) {
  auto identity = std::make_shared<Identity>();
  CLI::App* past = program.add_verb(
      "history", "Show what became of one identity: entry, news, failures, next run", kGroup,
      {"dmm history player kitchen", "dmm history player kitchen --watch 1"},
      [identity](Session& session) { return history(session, *identity); });
  add_one(past, *identity);
  program.repeat(*past);

  auto options = std::make_shared<DiffOptions>();
  CLI::App* compare = program.add_verb(
      "diff", "Show what the next run of one identity would find changed", kGroup,
      {"dmm diff player kitchen              what was stored, and what waits to be done",
       "dmm diff player kitchen 120 134      the same by revision, as `dmm history` lists them",
       "dmm diff player kitchen -o json      as a JSON patch (RFC 6902)"},
      [options](Session& session) { return diff(session, *options); });
  add_one(compare, options->identity);
  compare->add_option("from", options->from, "\"stored\", \"next\", or the revision of one")
      ->capture_default_str()
      ->type_name("REV");
  compare->add_option("to", options->to, "Likewise")->capture_default_str()->type_name("REV");
}

}  // namespace dmm::cli
