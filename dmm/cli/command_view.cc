// view: views as they stand, and a view kept without writing C++.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/cli/view_file.h"
#include "dmm/json.h"
#include "dmm/view.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Views";

struct ViewOptions {
  std::string file;
  std::string snapshots;
  std::string name;
};

Time time_of(std::int64_t unix_ms) {
  return Time(std::chrono::milliseconds(unix_ms));
}

std::string state_of(const ViewInfo& view) {
  if (view.held > 0) return fmt::format("{} held", human_count(view.held));
  if (view.doubt) return "in doubt";
  if (!view.stopped.empty()) return "rollout stopped";
  if (view.loaded && view.rolled_out < view.release) return "rolling out";
  return view.loaded ? "current" : "loading";
}

int list(Session& session) {
  Bucket bucket = session.open();
  const std::vector<ViewInfo> views = bucket.views().list();
  if (session.json()) {
    auto documents = nlohmann::json::array();
    for (const ViewInfo& view : views) documents.push_back(document_of(view));
    session.show(documents);
    return exit_code::ok;
  }
  if (views.empty()) {
    if (session.terminal().interactive) session.say("no views: none was kept here yet");
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "VIEW", .flexible = true},
               {.title = "TYPE"},
               {.title = "STATE"},
               {.title = "ROWS", .number = true},
               {.title = "NOTIFIED", .number = true},
               {.title = "REMOVED", .number = true},
               {.title = "REFUSED", .number = true},
               {.title = "WRITTEN"}});
  for (const ViewInfo& view : views) {
    const bool good = state_of(view) == "current";
    table.add({{view.name},
               {view.type},
               {state_of(view), good ? Color::green : Color::yellow},
               {human_count(view.rows)},
               {human_count(view.notified)},
               {human_count(view.removed)},
               {human_count(view.refused)},
               {human_age(time_of(view.at), now)}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int show(Session& session, const ViewOptions& options) {
  Bucket bucket = session.open();
  const ViewInfo view = bucket.views().find(options.name);
  if (session.json()) {
    session.show(document_of(view));
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  session.say(fmt::format("view {} of type {}, key {}, release {} ({}): {}", printable(view.name),
                          printable(view.type), printable(view.key), view.release,
                          printable(view.pipeline), state_of(view)));
  session.say(fmt::format("{} rows; {} notified ({} removed), {} on their way; written {}",
                          human_count(view.rows), human_count(view.notified),
                          human_count(view.removed), human_count(view.sending),
                          human_age(time_of(view.at), now)));
  if (view.snapshot_at > 0) {
    session.say(fmt::format("its owner began with a snapshot written {}",
                            human_age(time_of(view.snapshot_at), now)));
  } else if (!view.cold_because.empty()) {
    session.say(fmt::format("its owner began cold: {}", printable(view.cold_because)));
  }
  if (view.refused + view.stale + view.twice + view.without_key > 0) {
    session.say(
        fmt::format("left out: {} refused, {} older reports, {} ids with several rows, {} "
                    "rows without a key; see `dmm parked`",
                    human_count(view.refused), human_count(view.stale), human_count(view.twice),
                    human_count(view.without_key)));
  }
  if (view.rolled_out < view.release && view.rollout_told > 0) {
    session.say(fmt::format("rollout of release {}: {} told, {} of them failing, {} to go",
                            view.release, human_count(view.rollout_told),
                            human_count(view.rollout_failing), human_count(view.sending)));
  }
  if (!view.stopped.empty()) {
    session.say(fmt::format("stopped: {}", printable(view.stopped)));
    session.say(fmt::format("  dmm view rollback {}   brings the release before back",
                            printable(view.name)));
  }
  if (view.held > 0 || view.doubt) {
    session.say(fmt::format("held: {} removals, because {}", human_count(view.held),
                            printable(view.held_reason)));
    for (const std::string& id : view.held_some) session.say("  " + printable(id));
    session.say(fmt::format("  dmm view approve {}   lets them go", printable(view.name)));
  }
  Table table({{.title = "INPUT"},
               {.title = "FROM", .flexible = true},
               {.title = "STATE"},
               {.title = "ROWS", .number = true},
               {.title = "AS OF", .flexible = true},
               {.title = "CHANGED"}});
  for (const ViewInputInfo& input : view.inputs) {
    table.add({{input.name},
               {input.description},
               {input.loaded ? "loaded" : "loading", input.loaded ? Color::green : Color::yellow},
               {human_count(input.rows)},
               {input.position},
               {input.changed_at > 0 ? human_age(time_of(input.changed_at), now) : ""}});
  }
  session.out().write(table.render(session.terminal()));
  return exit_code::ok;
}

int approve(Session& session, const ViewOptions& options) {
  Bucket bucket = session.open();
  const ViewInfo view = bucket.views().find(options.name);
  if (view.held == 0 && !view.doubt) {
    throw Error(code::nothing_held, fmt::format("view {} holds no removals", view.name));
  }
  const std::string question =
      fmt::format("View {} holds {} removals, because {}. Let them go?", printable(view.name),
                  human_count(view.held), printable(view.held_reason));
  if (!session.confirm(question)) return exit_code::failed;
  bucket.views().approve(view.name, view.held);
  if (session.json()) session.show({{"view", view.name}, {"approved", view.held}});
  session.say(fmt::format("approved: {} removals of view {}", human_count(view.held), view.name));
  return exit_code::ok;
}

int run(Session& session, const ViewOptions& options) {
  View view = read_view(options.file, ViewReader::owner);
  StopOnInterrupt stop;
  Bucket bucket = session.open({.directory = options.snapshots});
  const std::string name = view.name;
  ViewStream& stream = bucket.view(std::move(view));
  session.warn(fmt::format("keeping view {}; Ctrl-C ends it", printable(name)));
  bucket.work(stop.token());
  const ViewStats stats = stream.stats();
  if (session.json()) {
    session.show({{"view", name},
                  {"rows", stats.rows},
                  {"changes", stats.changes},
                  {"restored", stats.restored},
                  {"notified", stats.notified},
                  {"removed", stats.removed},
                  {"held", stats.held},
                  {"refused", stats.refused}});
    return exit_code::ok;
  }
  session.say(
      fmt::format("view {}: {} changes taken, {} identities notified ({} removed), {} held, "
                  "{} refused",
                  printable(name), human_count(stats.changes), human_count(stats.notified),
                  human_count(stats.removed), human_count(stats.held), human_count(stats.refused)));
  return exit_code::ok;
}

}  // namespace

void add_view_commands(Program& program) {
  CLI::App* family =
      program.add_family("view", "See views, keep and change them", kGroup,
                         {"dmm view ls", "dmm view show players", "dmm view run players.yaml",
                          "dmm view plan players.yaml"});
  program.repeat(
      *program.add_verb_to(*family, "ls", "List the views of the namespace",
                           {"dmm view ls                  where each stands, as its owner wrote it",
                            "dmm view ls --watch"},
                           list));
  auto options = std::make_shared<ViewOptions>();
  CLI::App* one = program.add_verb_to(
      *family, "show", "Show a view: its inputs, how fresh they are, what is held and why",
      {"dmm view show players", "dmm view show players -o json"},
      [options](Session& session) { return show(session, *options); });
  one->add_option("view", options->name, "Name of the view")->required()->type_name("VIEW");
  program.repeat(*one);
  CLI::App* let = program.add_verb_to(
      *family, "approve", "Let the removals go that a view holds",
      {"dmm view approve players        asks", "dmm view approve players --yes"},
      [options](Session& session) { return approve(session, *options); });
  let->add_option("view", options->name, "Name of the view")->required()->type_name("VIEW");
  CLI::App* keep = program.add_verb_to(
      *family, "run", "Keep a view until interrupted",
      {"dmm view run players.yaml       beside other keepers of the view: a warm standby",
       "dmm view run players.yaml --snapshots /var/lib/dmm    begins fast when it begins again"},
      [options](Session& session) { return run(session, *options); });
  keep->add_option("file", options->file, "View, JSON or YAML; \"-\": standard input")
      ->required()
      ->type_name("FILE");
  keep->add_option("--snapshots", options->snapshots,
                   "Directory of this machine in which it keeps what it has read")
      ->type_name("DIR");
  add_view_change_commands(program, *family);
}

}  // namespace dmm::cli
