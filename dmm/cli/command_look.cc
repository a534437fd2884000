// ls, get, reports: what a namespace holds.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/program.h"
#include "dmm/cli/selection.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Look";
constexpr auto kDue = std::chrono::milliseconds(500);  // sooner than a person reads it

Color color_of(Phase phase) {
  switch (phase) {
    case Phase::settled:
      return Color::green;
    case Phase::waiting:
      return Color::none;
    case Phase::failing:
    case Phase::offline:
      return Color::yellow;
    case Phase::parked:
      return Color::red;
  }
  return Color::none;
}

// An id as a cell: the empty id must not look like "none".
std::string shown_id(const std::string& id) {
  return id.empty() ? "\"\"" : id;
}

// What a person wants to know of an identity beyond its phase.
std::string note_of(const Matter& matter, Time now) {
  std::string note;
  const auto add = [&](std::string_view text) {
    if (text.empty()) return;
    if (!note.empty()) note += "; ";
    note += text;
  };
  if (matter.deleted) add("to be removed");
  if (matter.next_retry_at) {
    const bool due = *matter.next_retry_at - now < kDue;
    add(due ? "retry due" : fmt::format("retry {}", human_age(matter.next_retry_at, now)));
  }
  if (!matter.error_code.empty()) add(fmt::format("{} {}", matter.error_code, matter.error));
  if (!matter.damage.empty()) add(fmt::format("damaged: {}", matter.damage));
  return note;
}

// Says what is paused, so that nobody looks for other reasons why work waits.
void tell_pauses(Session& session, Bucket& bucket, const std::string& type) {
  const Time now = std::chrono::system_clock::now();
  std::size_t identities = 0;
  for (const Pause& pause : bucket.control().pauses()) {
    const bool here = type.empty() || pause.scope.type.empty() || pause.scope.type == type;
    if (!here) continue;
    if (pause.scope.id) {
      ++identities;
      continue;
    }
    const std::string what = pause.scope.type.empty() ? "everything" : pause.scope.type;
    session.say(fmt::format("paused: {} {} by {}{}", what, human_age(pause.at, now),
                            printable(pause.by, 100),
                            pause.reason.empty() ? "" : ": " + printable(pause.reason, 300)));
  }
  if (identities > 0) {
    session.say(fmt::format("paused: {} by themselves, see `dmm pause`",
                            counted(identities, "identity", "identities")));
  }
}

void summarize(Session& session, const std::vector<Matter>& matters) {
  if (!session.terminal().interactive) return;
  std::array<std::size_t, 5> counts{};
  for (const Matter& matter : matters) ++counts.at(static_cast<std::size_t>(matter.phase));
  std::string line = counted(matters.size(), "identity", "identities");
  const char* separator = ": ";
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts.at(i) == 0) continue;
    line += fmt::format("{}{} {}", separator, human_count(counts.at(i)),
                        to_string(static_cast<Phase>(i)));
    separator = ", ";
  }
  session.say("");
  session.say(line);
}

struct ListOptions : SelectionOptions {
  std::string type;
  bool parked = false;
  bool failing = false;
  bool offline = false;
  bool values = false;
};

int list(Session& session, ListOptions options) {
  if (!options.type.empty()) check_name(options.type, "type");
  if (options.parked) options.phases.emplace_back(to_string(Phase::parked));
  if (options.failing) options.phases.emplace_back(to_string(Phase::failing));
  if (options.offline) options.phases.emplace_back(to_string(Phase::offline));
  const Selection selection(options);
  Bucket bucket = session.open();
  std::vector<Matter> matters = bucket.inspect().list(options.type, options.values);
  selection.apply(matters);
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const Matter& matter : matters) {
      documents.push_back(document_of(matter, options.values));
    }
    session.show(documents);
    return exit_code::ok;
  }
  if (matters.empty()) {
    if (session.terminal().interactive) session.say("nothing");
    return exit_code::ok;
  }
  std::vector<Table::Column> columns{
      {.title = "TYPE"},   {.title = "ID", .flexible = true},  {.title = "PHASE"},
      {.title = "STORED"}, {.title = "TRIES", .number = true}, {.title = "NOTE", .flexible = true}};
  if (options.values) columns.push_back({.title = "VALUE", .flexible = true});
  Table table(std::move(columns));
  const Time now = std::chrono::system_clock::now();
  for (const Matter& matter : matters) {
    std::vector<Table::Cell> row{{matter.identity.type},
                                 {shown_id(matter.identity.id)},
                                 {std::string(to_string(matter.phase)), color_of(matter.phase)},
                                 {human_age(matter.stored_at, now)},
                                 {matter.attempts == 0 ? "" : std::to_string(matter.attempts)},
                                 {note_of(matter, now)}};
    if (options.values) row.push_back({matter.effective.value_or("")});
    table.add(std::move(row));
  }
  session.out().write(table.render(session.terminal()));
  summarize(session, matters);
  if (session.terminal().interactive) tell_pauses(session, bucket, options.type);
  return exit_code::ok;
}

// A value on several lines if it is JSON, else its printable text.
std::string pretty(const std::string& text) {
  auto value = parse_json(text);
  if (!value) return printable(text);
  std::string lines = json_text(value.value(), true);
  // Strings may hold what a terminal obeys; JSON escapes C0 but not C1 and the direction controls.
  std::string safe;
  for (std::size_t at = 0; at < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', at), lines.size());
    safe += printable(std::string_view(lines).substr(at, end - at), end - at + 16) + "\n";
    at = end + 1;
  }
  if (!safe.empty()) safe.pop_back();
  return safe;
}

/// As of what the view of an entry is: each input with the newest change taken.
struct AsOf {
  std::string view;
  std::vector<ViewInputInfo> inputs;
};

std::optional<AsOf> as_of(Bucket& bucket, const Matter& matter) {
  if (matter.view.empty()) return std::nullopt;
  AsOf found{matter.view, {}};
  try {
    found.inputs = bucket.views().find(matter.view).inputs;
  } catch (const Error& error) {
    if (error.kind() != Kind::not_found) throw;  // nobody has kept it for long
  }
  return found;
}

/// The pause that stops an identity: everything's, its type's or its own.
std::optional<Pause> pause_of(Bucket& bucket, const Identity& identity) {
  for (Pause& pause : bucket.control().pauses()) {
    const PauseScope& scope = pause.scope;
    if (!scope.type.empty() && scope.type != identity.type) continue;
    if (!scope.id || *scope.id == identity.id) return std::move(pause);
  }
  return std::nullopt;
}

void describe(Session& session, const Matter& matter, const std::optional<AsOf>& as_of,
              const std::optional<Pause>& pause) {
  const Time now = std::chrono::system_clock::now();
  const auto line = [&](std::string_view name, const std::string& text) {
    if (text.empty()) return;
    session.say(fmt::format("{:<10} {}", name, printable(text, 4'000)));
  };
  session.say(session.terminal().paint(
      fmt::format("{}/{}", matter.identity.type, printable(shown_id(matter.identity.id))),
      Color::bold));
  line("phase", std::string(to_string(matter.phase)));
  if (matter.stored_at) {
    line("stored",
         fmt::format("{}, revision {}", human_age(matter.stored_at, now), matter.revision.value));
  } else {
    line("stored", "never");
  }
  if (matter.token) {
    line(matter.deleted ? "removal" : "news",
         fmt::format("{}, token {}",
                     matter.notified_at ? human_age(matter.notified_at, now) : "waiting",
                     matter.token.value));
  }
  if (matter.attempts > 0) line("attempts", std::to_string(matter.attempts));
  line("failed", human_age(matter.failed_at, now));
  line("retry", human_age(matter.next_retry_at, now));
  if (!matter.error_code.empty()) line("error", matter.error_code + " " + matter.error);
  line("damage", matter.damage);
  if (pause) {
    line("paused", fmt::format("{} by {}{}", human_age(pause->at, now), pause->by,
                               pause->reason.empty() ? "" : ": " + pause->reason));
  }
  if (as_of) {
    std::string text = as_of->view;
    const char* separator = ", as of ";
    for (const ViewInputInfo& input : as_of->inputs) {
      const Time at{std::chrono::milliseconds(input.changed_at)};
      text +=
          fmt::format("{}{} {} ({})", separator, input.name, input.position, human_age(at, now));
      separator = ", ";
    }
    line("view", text);
  }
  if (matter.stored && matter.effective && *matter.stored != *matter.effective) {
    line("cached", *matter.stored);
  }
  session.out().write(matter.effective ? pretty(*matter.effective) : "no value");
  session.out().write("\n");
}

struct GetOptions {
  Identity identity;
  bool value = false;
};

int get(Session& session, const GetOptions& options) {
  check(options.identity);
  Bucket bucket = session.open();
  const auto matter = bucket.inspect().get(options.identity);
  if (!matter) {
    throw Error(code::not_found, fmt::format("{}/{} is not in namespace {}", options.identity.type,
                                             shown_id(options.identity.id), bucket.ns()));
  }
  if (options.value) {
    if (!matter->effective) {
      throw Error(code::not_found, fmt::format("{}/{} has no value", options.identity.type,
                                               shown_id(options.identity.id)));
    }
    session.out().write(session.terminal().interactive ? pretty(*matter->effective)
                                                       : *matter->effective);
    session.out().write("\n");
  } else if (session.json()) {
    nlohmann::json document = document_of(*matter, true);
    if (const auto found = as_of(bucket, *matter)) {
      document["as_of"] = documents_of(found->inputs);
    }
    if (const auto pause = pause_of(bucket, options.identity)) {
      document["paused"] = {
          {"reason", pause->reason}, {"by", pause->by}, {"at", rfc3339(pause->at)}};
    }
    session.show(document);
  } else {
    describe(session, *matter, as_of(bucket, *matter), pause_of(bucket, options.identity));
  }
  return exit_code::ok;
}

int reports(Session& session, const std::string& kind) {
  if (!kind.empty()) check_name(kind, "kind");
  Bucket bucket = session.open();
  const std::vector<LastReport> found = bucket.inspect().reports(kind);
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const LastReport& report : found) documents.push_back(document_of(report));
    session.show(documents);
    return exit_code::ok;
  }
  if (found.empty()) {
    if (session.terminal().interactive) session.say("no reports");
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "KIND"},
               {.title = "DEVICE", .flexible = true},
               {.title = "REPORTED"},
               {.title = "STATE", .flexible = true}});
  for (const LastReport& report : found) {
    table.add(
        {{report.kind}, {shown_id(report.device)}, {human_age(report.at, now)}, {report.state}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

}  // namespace

void add_look_commands(Program& program) {
  auto list_options = std::make_shared<ListOptions>();
  CLI::App* ls = program.add_verb(
      "ls", "List identities and how they stand", kGroup,
      {"dmm ls                        everything in the namespace",
       "dmm ls player --failing       players whose last run failed and is retried",
       "dmm ls player --parked        players that were given up",
       "dmm ls --phase waiting,failing --older-than 5m --sort age    what does not get on",
       "dmm ls player --error 'refused|timed out' --watch            see it change",
       "dmm ls player -o json | jq -r '.[] | select(.attempts > 3) | .id'"},
      [list_options](Session& session) { return list(session, *list_options); });
  ls->add_option("type", list_options->type, "Only this type")->type_name("TYPE");
  ls->add_flag("--parked", list_options->parked, "Those that were given up");
  ls->add_flag("--failing", list_options->failing, "Those whose last run failed");
  ls->add_flag("--offline", list_options->offline, "Those that wait for a device");
  add_selection(*ls, *list_options, true);
  ls->add_flag("--values", list_options->values, "With their values");
  program.repeat(*ls);

  auto get_options = std::make_shared<GetOptions>();
  CLI::App* one =
      program.add_verb("get", "Show one identity: value, phase, error", kGroup,
                       {"dmm get player kitchen            for people",
                        "dmm get player kitchen --value    only the value, for a pipe",
                        "dmm get player -- -kitchen        an id that begins with a dash"},
                       [get_options](Session& session) { return get(session, *get_options); });
  one->add_option("type", get_options->identity.type, "Type")->required()->type_name("TYPE");
  one->add_option("id", get_options->identity.id, "Id, as its owner spells it")
      ->required()
      ->type_name("ID");
  one->add_flag("--value", get_options->value, "Only the value that the next reader gets");
  program.repeat(*one);

  auto kind = std::make_shared<std::string>();
  CLI::App* last = program.add_verb(
      "reports", "List the last report of each device", kGroup,
      {"dmm reports player            the devices of a kind", "dmm reports -o json"},
      [kind](Session& session) { return reports(session, *kind); });
  last->add_option("kind", *kind, "Only this kind")->type_name("KIND");
  program.repeat(*last);
}

}  // namespace dmm::cli
