// view: views as they stand, and a view kept without writing C++.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/pipeline_file.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/view.h"
#ifdef DMM_CLI_POSTGRES
#include "dmm/postgres/table.h"
#endif

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Views";

struct ViewOptions {
  std::string file;
  std::string name;
};

Time time_of(std::int64_t unix_ms) {
  return Time(std::chrono::milliseconds(unix_ms));
}

nlohmann::json document_of(const ViewInfo& view) {
  auto inputs = nlohmann::json::array();
  for (const ViewInputInfo& input : view.inputs) {
    inputs.push_back({{"name", input.name},
                      {"description", input.description},
                      {"rows", input.rows},
                      {"loaded", input.loaded},
                      {"position", input.position},
                      {"changed_at_ms", input.changed_at}});
  }
  return {{"name", view.name},
          {"type", view.type},
          {"key", view.key},
          {"pipeline", view.pipeline},
          {"epoch", view.epoch},
          {"loaded", view.loaded},
          {"rows", view.rows},
          {"notified", view.notified},
          {"removed", view.removed},
          {"refused", view.refused},
          {"stale", view.stale},
          {"sending", view.sending},
          {"twice", view.twice},
          {"without_key", view.without_key},
          {"held", view.held},
          {"held_reason", view.held_reason},
          {"held_some", view.held_some},
          {"doubt", view.doubt},
          {"written_at_ms", view.at},
          {"inputs", std::move(inputs)}};
}

std::string state_of(const ViewInfo& view) {
  if (view.held > 0) return fmt::format("{} held", human_count(view.held));
  if (view.doubt) return "in doubt";
  return view.loaded ? "current" : "loading";
}

ViewInfo find_view(Bucket& bucket, const std::string& name) {
  const std::vector<ViewInfo> views = bucket.inspect().views();
  const auto found = std::ranges::find(views, name, &ViewInfo::name);
  if (found != views.end()) return *found;
  throw Error(code::not_found,
              fmt::format("there is no view {}; `dmm view ls` lists them", printable(name, 100)));
}

int list(Session& session) {
  Bucket bucket = session.open();
  const std::vector<ViewInfo> views = bucket.inspect().views();
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
    const bool good = view.loaded && view.held == 0 && !view.doubt;
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
  const ViewInfo view = find_view(bucket, options.name);
  if (session.json()) {
    session.show(document_of(view));
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  session.say(fmt::format("view {} of type {}, key {}, pipeline {}: {}", printable(view.name),
                          printable(view.type), printable(view.key), printable(view.pipeline),
                          state_of(view)));
  session.say(fmt::format("{} rows; {} notified ({} removed), {} on their way; written {}",
                          human_count(view.rows), human_count(view.notified),
                          human_count(view.removed), human_count(view.sending),
                          human_age(time_of(view.at), now)));
  if (view.refused + view.stale + view.twice + view.without_key > 0) {
    session.say(
        fmt::format("left out: {} refused, {} older reports, {} ids with several rows, {} "
                    "rows without a key; see `dmm parked`",
                    human_count(view.refused), human_count(view.stale), human_count(view.twice),
                    human_count(view.without_key)));
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
  const ViewInfo view = find_view(bucket, options.name);
  if (view.held == 0 && !view.doubt) {
    throw Error(code::nothing_held, fmt::format("view {} holds no removals", view.name));
  }
  const std::string question =
      fmt::format("View {} holds {} removals, because {}. Let them go?", printable(view.name),
                  human_count(view.held), printable(view.held_reason));
  if (!session.confirm(question)) return exit_code::failed;
  bucket.inspect().approve_removals(view.name, view.held);
  if (session.json()) session.show({{"view", view.name}, {"approved", view.held}});
  session.say(fmt::format("approved: {} removals of view {}", human_count(view.held), view.name));
  return exit_code::ok;
}

#ifdef DMM_CLI_POSTGRES
/// {"table": "songs", "schema", "connection", "name"}: what it leaves out comes from libpq's
/// environment.
ViewInput table_input(const nlohmann::json& source, const std::string& view) {
  const auto text = [&](const char* member, std::string otherwise) {
    const auto found = source.find(member);
    if (found == source.end()) return otherwise;
    if (!found->is_string()) {
      throw Error(code::bad_view, fmt::format("an input's \"{}\" is not a text", member));
    }
    return found->get<std::string>();
  };
  for (const auto& [member, value] : source.items()) {
    if (member == "table" || member == "schema" || member == "connection" || member == "name" ||
        member == "age_s") {
      continue;
    }
    throw Error(code::bad_view, fmt::format("an input of a table has no member \"{}\"; known: "
                                            "table, schema, connection, name, age_s",
                                            printable(member, 100)));
  }
  postgres::TableOptions options;
  options.table = text("table", "");
  options.schema = text("schema", "public");
  options.connection = text("connection", "");
  options.reader = fmt::format("view {}", view);
  options.logger = Logger::standard(Level::warn);
  return ViewInput::table(text("name", options.table), postgres::table(std::move(options)));
}
#endif

View read_view(const std::string& file) {
  const nlohmann::json source = read_pipeline(file);
  try {
#ifdef DMM_CLI_POSTGRES
    const std::string name =
        source.is_object() && source.contains("view") && source["view"].is_string()
            ? source["view"].get<std::string>()
            : "";
    return view_from_json(source,
                          [&](const nlohmann::json& input) { return table_input(input, name); });
#else
    return view_from_json(source);
#endif
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", printable(file, 300), error.message()));
  }
}

int run(Session& session, const ViewOptions& options) {
  View view = read_view(options.file);
  StopOnInterrupt stop;
  Bucket bucket = session.open();
  const std::string name = view.name;
  ViewStream& stream = bucket.view(std::move(view));
  session.warn(fmt::format("keeping view {}; Ctrl-C ends it", printable(name)));
  bucket.work(stop.token());
  const ViewStats stats = stream.stats();
  if (session.json()) {
    session.show({{"view", name},
                  {"rows", stats.rows},
                  {"changes", stats.changes},
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
      program.add_family("view", "See views and keep them", kGroup,
                         {"dmm view ls", "dmm view show players", "dmm view run players.yaml"});
  program.add_verb_to(*family, "ls", "List the views of the namespace",
                      {"dmm view ls                  where each stands, as its owner wrote it"},
                      list);
  auto options = std::make_shared<ViewOptions>();
  CLI::App* one = program.add_verb_to(
      *family, "show", "Show a view: its inputs, how fresh they are, what is held and why",
      {"dmm view show players", "dmm view show players -o json"},
      [options](Session& session) { return show(session, *options); });
  one->add_option("view", options->name, "Name of the view")->required()->type_name("VIEW");
  CLI::App* let = program.add_verb_to(
      *family, "approve", "Let the removals go that a view holds",
      {"dmm view approve players        asks", "dmm view approve players --yes"},
      [options](Session& session) { return approve(session, *options); });
  let->add_option("view", options->name, "Name of the view")->required()->type_name("VIEW");
  CLI::App* keep = program.add_verb_to(
      *family, "run", "Keep a view until interrupted",
      {"dmm view run players.yaml       beside other keepers of the view: a warm standby"},
      [options](Session& session) { return run(session, *options); });
  keep->add_option("file", options->file, "View, JSON or YAML; \"-\": standard input")
      ->required()
      ->type_name("FILE");
}

}  // namespace dmm::cli
