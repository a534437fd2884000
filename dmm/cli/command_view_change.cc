// view plan, apply, rollback, verify, lag: how a view is changed safely, and whether it is right.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <charconv>
#include <condition_variable>
#include <mutex>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/progress.h"
#include "dmm/cli/table.h"
#include "dmm/cli/view_file.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t kValueWidth = 300;

struct CompareArguments {
  std::string view;
  double follow_s = 0;
  double settle_s = 2;
  std::size_t samples = 10;
  bool repair = false;
};

nlohmann::json document_of(const ViewComparison& found) {
  auto samples = nlohmann::json::array();
  for (const RowDifference& one : found.samples) {
    samples.push_back(
        {{"kind", to_string(one.kind)}, {"id", one.id}, {"row", one.row}, {"cached", one.cached}});
  }
  nlohmann::json document{{"input_rows", found.input_rows},
                          {"rows", found.rows},
                          {"added", found.added},
                          {"changed", found.changed},
                          {"removed", found.removed},
                          {"foreign", found.foreign},
                          {"twice", found.twice},
                          {"without_key", found.without_key},
                          {"left_out", found.left_out},
                          {"left_out_why", found.left_out_why},
                          {"loading_ms", found.loading.count()},
                          {"samples", std::move(samples)},
                          {"same_as_owner", nullptr},
                          {"live", nullptr}};
  if (found.same_as_owner) document["same_as_owner"] = *found.same_as_owner;
  if (found.followed.count() > 0) {
    document["live"] = {{"followed_ms", found.followed.count()},
                        {"changes", found.live_changes},
                        {"rows_changed", found.live_rows},
                        {"time_us", found.live_time.count()}};
  }
  return document;
}

/// Compares, with a line that tells how far it is.
ViewComparison compare(Session& session, Views& views, const View& view,
                       const CompareArguments& arguments) {
  StopOnInterrupt stop;
  Progress progress(session.error_terminal(), "rows of inputs", 0);
  CompareOptions options;
  options.follow = milliseconds(static_cast<std::int64_t>(arguments.follow_s * 1'000));
  options.settle = milliseconds(static_cast<std::int64_t>(arguments.settle_s * 1'000));
  options.samples_max = arguments.samples;
  options.stop = stop.token();
  options.on_progress = [&](std::uint64_t rows) { progress.update(rows, 0, rows); };
  try {
    return views.compare(view, options);
  } catch (const Error&) {
    if (stop.interrupted()) throw Interrupted("interrupted: nothing was changed");
    throw;
  }
}

/// Only the fields that the pipeline makes: the others are not its business.
std::string value_of(const nlohmann::json& value, const nlohmann::json& like) {
  if (value.is_null()) return "";
  if (!like.is_object() || !value.is_object()) return dump_json(value);
  auto part = nlohmann::json::object();
  for (const auto& [name, unused] : like.items()) {
    if (value.contains(name)) part[name] = value[name];
  }
  return dump_json(part);
}

void tell_comparison(Session& session, const ViewComparison& found) {
  session.say(fmt::format("{} rows from {} rows of inputs, computed in {} ms",
                          human_count(found.rows), human_count(found.input_rows),
                          found.loading.count()));
  session.say(fmt::format("against the caches: {} added, {} changed, {} removed",
                          human_count(found.added), human_count(found.changed),
                          human_count(found.removed)));
  if (found.foreign + found.twice + found.without_key + found.left_out > 0) {
    session.say(
        fmt::format("left out: {} documents, {} ids with several rows, {} rows without a key, {} "
                    "identities of other views",
                    human_count(found.left_out), human_count(found.twice),
                    human_count(found.without_key), human_count(found.foreign)));
    for (const std::string& why : found.left_out_why) session.say("  " + printable(why, 500));
  }
  if (found.followed.count() > 0) {
    const double seconds = static_cast<double>(found.followed.count()) / 1'000;
    session.say(fmt::format(
        "live for {:.0f} s: {} changes of inputs changed {} rows ({:.1f} notifies/s); {:.2f} % of "
        "a core",
        seconds, human_count(found.live_changes), human_count(found.live_rows),
        static_cast<double>(found.live_rows) / seconds,
        static_cast<double>(found.live_time.count()) / seconds / 1e4));
  }
  if (found.samples.empty()) return;
  session.say("");
  Table table({{.title = "CHANGE"},
               {.title = "ID", .flexible = true},
               {.title = "ROW", .flexible = true},
               {.title = "CACHED", .flexible = true}});
  for (const RowDifference& one : found.samples) {
    const Color color = one.kind == RowDifference::Kind::removed ? Color::red
                        : one.kind == RowDifference::Kind::added ? Color::green
                                                                 : Color::yellow;
    table.add({{std::string(to_string(one.kind)), color},
               {printable(one.id)},
               {printable(value_of(one.row, {}), kValueWidth)},
               {printable(value_of(one.cached, one.row), kValueWidth)}});
  }
  session.out().write(table.render(session.terminal()));
}

int plan(Session& session, const CompareArguments& arguments) {
  const View view = read_view(arguments.view, ViewReader::passing);
  Bucket bucket = session.open();
  const ViewComparison found = compare(session, bucket.views(), view, arguments);
  if (session.json()) {
    session.show(document_of(found));
    return exit_code::ok;
  }
  tell_comparison(session, found);
  session.say("");
  session.say(found.differences() == 0
                  ? "nothing would be notified"
                  : fmt::format("`dmm view apply {}` would notify {}", printable(arguments.view),
                                counted(found.differences(), "identity", "identities")));
  return exit_code::ok;
}

int verify(Session& session, const CompareArguments& arguments) {
  Bucket bucket = session.open();
  const View view = find_view(bucket.views(), arguments.view, ViewReader::passing);
  const ViewComparison found = compare(session, bucket.views(), view, arguments);
  const bool good = found.differences() == 0 && found.same_as_owner.value_or(true);
  if (session.json()) {
    nlohmann::json document = document_of(found);
    document["good"] = good;
    document["repaired"] = !good && arguments.repair;
    session.show(document);
  } else {
    tell_comparison(session, found);
    session.say(!found.same_as_owner   ? "its owner: not comparable, inputs keep changing"
                : *found.same_as_owner ? "its owner has the same rows"
                                       : "its owner has OTHER rows");
    session.say(good ? "verified: inputs, view and caches agree" : "they do NOT agree");
  }
  if (good) return exit_code::ok;
  if (!arguments.repair) {
    session.say(fmt::format("  dmm view verify {} --repair   has the owner compute it anew",
                            printable(view.name)));
    return exit_code::failed;
  }
  bucket.views().rebuild(view.name);
  session.say("the owner was asked to compute the view anew and to notify what differs");
  return exit_code::ok;
}

struct ApplyArguments {
  std::string view;
  std::string rate;
  std::uint64_t failures = 10;
  bool wait = false;
};

/// "600", "600/min" or "10/s" in notifies per minute; 0 for none.
std::uint64_t rate_of(const std::string& text) {
  if (text.empty()) return 0;
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [at, failure] = std::from_chars(text.data(), end, number);
  const std::string_view unit(at, static_cast<std::size_t>(end - at));
  const bool sound = failure == std::errc() && number > 0 && number <= 1'000'000'000;
  if (sound && (unit.empty() || unit == "/min")) return number;
  if (sound && unit == "/s") return number * 60;
  throw UsageError(
      fmt::format("--max \"{}\" is not a rate such as 600/min or 10/s", printable(text, 100)));
}

/// Until the release is rolled out or stops; the exit code tells which.
int follow_rollout(Session& session, Views& views, const std::string& name,
                   const ViewRelease& release) {
  StopOnInterrupt stop;
  Progress progress(session.error_terminal(), "identities told", 0);
  std::mutex mutex;
  std::condition_variable_any changed;
  while (!stop.token().stop_requested()) {
    const ViewInfo state = views.find(name);
    if (state.release == release.number) {
      progress.update(state.rollout_told, state.rollout_failing, state.rollout_told);
      if (!state.stopped.empty()) {
        progress.clear();
        session.warn(
            fmt::format("the rollout stopped: {}\n  dmm view rollback {}   brings the "
                        "release before back",
                        printable(state.stopped), printable(name)));
        return exit_code::failed;
      }
      if (state.rolled_out >= release.number) {
        progress.clear();
        session.say(fmt::format("release {} of view {} is rolled out", release.number, name));
        return exit_code::ok;
      }
    }
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop.token(), milliseconds(300), [] { return false; });
  }
  throw Interrupted("interrupted: the rollout goes on; `dmm view show` tells how far it is");
}

int finish_apply(Session& session, Views& views, const std::string& name,
                 const ViewRelease& release, bool wait) {
  if (session.json()) {
    session.show({{"view", name},
                  {"release", release.number},
                  {"hash", release.hash},
                  {"by", release.by},
                  {"per_minute", release.rollout.per_minute},
                  {"failures_max", release.rollout.failures_max}});
  }
  session.say(fmt::format("view {}: release {} ({}) is to be kept", printable(name), release.number,
                          release.by));
  if (wait) return follow_rollout(session, views, name, release);
  session.say(fmt::format("  dmm view show {}       how far it is", printable(name)));
  session.say(fmt::format("  dmm view rollback {}   back to the release before", printable(name)));
  return exit_code::ok;
}

int apply(Session& session, const ApplyArguments& arguments) {
  const Rollout rollout{rate_of(arguments.rate), arguments.failures};
  const View view = read_view(arguments.view, ViewReader::passing);
  Bucket bucket = session.open();
  if (!session.globals().yes) {
    const ViewComparison found = compare(session, bucket.views(), view, {});
    tell_comparison(session, found);
    if (!session.confirm(fmt::format("Apply it to view {}?", printable(view.name)))) {
      return exit_code::failed;
    }
  }
  const ViewRelease release = bucket.views().apply(view, rollout);
  return finish_apply(session, bucket.views(), view.name, release, arguments.wait);
}

int roll_back(Session& session, const ApplyArguments& arguments) {
  const Rollout rollout{rate_of(arguments.rate), arguments.failures};
  Bucket bucket = session.open();
  const ViewRelease present = bucket.views().release(arguments.view);
  if (!session.confirm(fmt::format("View {}: go back from release {} ({}) to the one before?",
                                   printable(arguments.view), present.number, present.by))) {
    return exit_code::failed;
  }
  const ViewRelease release = bucket.views().roll_back(arguments.view, rollout);
  return finish_apply(session, bucket.views(), arguments.view, release, arguments.wait);
}

int lag(Session& session, const std::string& name) {
  Bucket bucket = session.open();
  const View view = view_of(bucket.views().release(name), ViewReader::passing);
  const std::vector<InputLag> lags = bucket.views().lag(view);
  const ViewInfo state = bucket.views().find(name);
  if (session.json()) {
    auto inputs = nlohmann::json::array();
    for (const InputLag& one : lags) {
      inputs.push_back({{"name", one.input},
                        {"description", one.description},
                        {"position", one.position},
                        {"changed_at_ms", one.changed_at},
                        {"behind", one.behind ? nlohmann::json(*one.behind) : nlohmann::json()},
                        {"oldest_at_ms", one.oldest_at}});
    }
    session.show({{"view", name}, {"sending", state.sending}, {"inputs", std::move(inputs)}});
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  const auto age = [&](std::int64_t at) {
    return at > 0 ? human_age(Time(milliseconds(at)), now) : std::string();
  };
  Table table({{.title = "INPUT"},
               {.title = "FROM", .flexible = true},
               {.title = "TAKEN UP TO", .flexible = true},
               {.title = "CHANGED"},
               {.title = "BEHIND", .number = true},
               {.title = "WAITS SINCE"}});
  for (const InputLag& one : lags) {
    const bool behind = one.behind.value_or(0) > 0;
    table.add({{one.input},
               {one.description},
               {one.position},
               {age(one.changed_at)},
               {one.behind ? human_count(*one.behind) : "?", behind ? Color::yellow : Color::green},
               {age(one.oldest_at)}});
  }
  session.out().write(table.render(session.terminal()));
  session.say(fmt::format("{} on their way to materializers", human_count(state.sending)));
  return exit_code::ok;
}

void add_rollout_options(CLI::App& verb, ApplyArguments& arguments) {
  verb.add_option("--max", arguments.rate, "Notifies at most so many: 600/min, 10/s")
      ->type_name("RATE");
  verb.add_option("--max-failures", arguments.failures,
                  "Stop when more of those that were told are failing; 0: never")
      ->capture_default_str();
  verb.add_flag("--wait", arguments.wait, "Wait until it is rolled out, or stops");
}

}  // namespace

void add_view_change_commands(Program& program, CLI::App& family) {
  auto planned = std::make_shared<CompareArguments>();
  CLI::App* verb = program.add_verb_to(
      family, "plan", "Compute a view beside the live one and show what it would change",
      {"dmm view plan players.yaml                changes nothing",
       "dmm view plan players.yaml --follow 30    and what it costs on live input"},
      [planned](Session& session) { return plan(session, *planned); });
  verb->add_option("file", planned->view, "View, JSON or YAML; \"-\": standard input")
      ->required()
      ->type_name("FILE");
  verb->add_option("--follow", planned->follow_s, "Seconds to follow live changes")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86'400.0));
  verb->add_option("--samples", planned->samples, "Rows shown of each kind")->capture_default_str();

  auto applied = std::make_shared<ApplyArguments>();
  verb = program.add_verb_to(
      family, "apply", "Have a view kept as a file says, at a rate",
      {"dmm view apply players.yaml               shows the plan and asks",
       "dmm view apply players.yaml --max 600/min --max-failures 5 --wait --yes"},
      [applied](Session& session) { return apply(session, *applied); });
  verb->add_option("file", applied->view, "View, JSON or YAML; \"-\": standard input")
      ->required()
      ->type_name("FILE");
  add_rollout_options(*verb, *applied);

  auto back = std::make_shared<ApplyArguments>();
  verb = program.add_verb_to(family, "rollback", "Go back to the release before the present one",
                             {"dmm view rollback players --yes"},
                             [back](Session& session) { return roll_back(session, *back); });
  verb->add_option("view", back->view, "Name of the view")->required()->type_name("VIEW");
  add_rollout_options(*verb, *back);

  auto verified = std::make_shared<CompareArguments>();
  verb = program.add_verb_to(
      family, "verify", "Recompute a view from its inputs; compare it with owner and caches",
      {"dmm view verify players             exit code 1 if they do not agree",
       "dmm view verify players --repair    has the owner compute it anew if so"},
      [verified](Session& session) { return verify(session, *verified); });
  verb->add_option("view", verified->view, "Name of the view, or its file")
      ->required()
      ->type_name("VIEW");
  verb->add_flag("--repair", verified->repair, "Repair what differs");
  verb->add_option("--settle", verified->settle_s,
                   "Seconds for which a difference has to stay to be one")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 3'600.0))
      ->capture_default_str();

  auto name = std::make_shared<std::string>();
  verb = program.add_verb_to(family, "lag", "Show how far a view is behind its inputs",
                             {"dmm view lag players", "dmm view lag players -o json"},
                             [name](Session& session) { return lag(session, *name); });
  verb->add_option("view", *name, "Name of the view")->required()->type_name("VIEW");
}

}  // namespace dmm::cli
