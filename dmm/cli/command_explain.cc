// explain: why an identity is as it is, from the inputs of its view to its last run.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/progress.h"
#include "dmm/cli/view_file.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kValueWidth = 1'000;

struct ExplainArguments {
  Identity identity;
  std::string view;
};

/// Everything that is known of an identity.
struct Explained {
  std::optional<Matter> matter;
  std::string view;  ///< empty: it belongs to none
  std::optional<ViewInfo> state;
  std::optional<RowExplanation> row;
  std::string row_missing;  ///< why there is none, although it belongs to a view
};

/// The view that an identity without a cache may be missing from: the one of its type.
std::string view_of_type(Views& views, const std::string& type) {
  std::string found;
  for (const ViewInfo& view : views.list()) {
    if (view.type != type) continue;
    if (!found.empty()) return "";  // which of them is for the user to say
    found = view.name;
  }
  return found;
}

Explained gather(Session& session, Bucket& bucket, const ExplainArguments& arguments) {
  Explained explained;
  explained.matter = bucket.inspect().get(arguments.identity);
  explained.view = arguments.view;
  if (explained.view.empty() && explained.matter) explained.view = explained.matter->view;
  if (explained.view.empty()) {
    explained.view = view_of_type(bucket.views(), arguments.identity.type);
  }
  if (explained.view.empty()) return explained;
  View view;
  try {
    explained.state = bucket.views().find(explained.view);
    view = view_of(bucket.views().release(explained.view), ViewReader::passing);
  } catch (const Error& error) {
    // Cache, token and attempts are worth telling all the same.
    if (error.kind() != Kind::not_found && error.kind() != Kind::invalid) throw;
    explained.row_missing = error.what();
    return explained;
  }
  StopOnInterrupt stop;
  Progress progress(session.error_terminal(), "rows of inputs", 0);
  CompareOptions options;
  options.stop = stop.token();
  options.on_progress = [&](std::uint64_t rows) { progress.update(rows, 0, rows); };
  try {
    explained.row = bucket.views().explain(view, arguments.identity.id, options);
  } catch (const Error&) {
    if (stop.interrupted()) throw Interrupted("interrupted");
    throw;
  }
  return explained;
}

nlohmann::json document_of(const Explained& explained) {
  nlohmann::json document{{"view", explained.view},
                          {"matter", nullptr},
                          {"row", nullptr},
                          {"row_missing", explained.row_missing}};
  if (explained.matter) document["matter"] = dmm::cli::document_of(*explained.matter, true);
  if (explained.state) document["as_of"] = documents_of(explained.state->inputs);
  if (!explained.row) return document;
  const RowExplanation& row = *explained.row;
  auto inputs = nlohmann::json::array();
  for (const InputRow& input : row.inputs) {
    inputs.push_back({{"input", input.input},
                      {"key", input.key},
                      {"document", input.document},
                      {"position", input.position},
                      {"changed_at_ms", input.changed_at}});
  }
  auto operators = nlohmann::json::array();
  for (const OperatorRows& one : row.operators) {
    operators.push_back({{"node", one.node}, {"what", one.what}, {"rows", one.rows}});
  }
  document["row"] = {{"rows", row.rows},
                     {"absent", row.absent},
                     {"inputs", std::move(inputs)},
                     {"operators", std::move(operators)},
                     {"input_rows", row.input_rows}};
  return document;
}

std::string value_text(const nlohmann::json& value) {
  return printable(dump_json(value), kValueWidth);
}

void tell_row(Session& session, const Explained& explained, Time now) {
  const RowExplanation& row = *explained.row;
  const auto heading = [&](const std::string& text) {
    session.say("");
    session.say(session.terminal().paint(text, Color::bold));
  };
  heading(fmt::format("view {}", printable(explained.view)));
  if (row.absent) session.say("has no row of this id");
  for (const nlohmann::json& one : row.rows) session.say("row        " + value_text(one));
  if (row.rows.size() > 1) session.say("has several rows of this id, so that nobody is notified");
  heading(row.absent ? "rows of inputs of that key" : "rests on");
  if (row.inputs.empty()) session.say("nothing");
  for (const InputRow& input : row.inputs) {
    const Time at{std::chrono::milliseconds(input.changed_at)};
    session.say(fmt::format("{} {}, {}, at {}", printable(input.input), printable(input.key),
                            human_age(at, now), printable(input.position)));
    session.say("           " + value_text(input.document));
  }
  if (!row.inputs.empty() && !row.absent) {
    session.say(fmt::format("told last: {} {}", printable(row.inputs.front().input),
                            printable(row.inputs.front().key)));
  }
  if (row.operators.empty()) return;
  heading("through each operator");
  for (const OperatorRows& one : row.operators) {
    session.say(printable(one.node) + ": " + printable(one.what, kValueWidth));
    if (one.rows.empty()) session.say("           nothing came of it here");
    for (const nlohmann::json& value : one.rows) session.say("           " + value_text(value));
  }
}

void tell_matter(Session& session, const Explained& explained, Time now) {
  if (!explained.matter) return session.say("no cache entry, no token, no status");
  const Matter& matter = *explained.matter;
  session.say(fmt::format("phase      {}", to_string(matter.phase)));
  if (matter.effective) {
    session.say("cached     " + printable(*matter.effective, kValueWidth));
  }
  session.say(matter.stored_at
                  ? fmt::format("last run   succeeded {}, revision {}",
                                human_age(matter.stored_at, now), matter.revision.value)
                  : "last run   none has succeeded yet");
  if (matter.token) {
    session.say(fmt::format("token      {}, since {}{}", matter.token.value,
                            human_age(matter.notified_at, now),
                            matter.deleted ? ", to be removed" : ""));
  }
  if (matter.attempts > 0) {
    session.say(fmt::format("attempts   {}, the last {}: {} {}", matter.attempts,
                            human_age(matter.failed_at, now), matter.error_code,
                            printable(matter.error, kValueWidth)));
  }
  if (matter.next_retry_at) {
    session.say("next try   " + human_age(matter.next_retry_at, now));
  }
}

int explain(Session& session, const ExplainArguments& arguments) {
  check(arguments.identity);
  Bucket bucket = session.open();
  const Explained explained = gather(session, bucket, arguments);
  if (!explained.matter && !explained.row) {
    throw Error(code::not_found,
                fmt::format("{}/{} is not in namespace {}, and no view has its type",
                            arguments.identity.type, arguments.identity.id, bucket.ns()));
  }
  if (session.json()) {
    session.show(document_of(explained));
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  session.say(session.terminal().paint(
      fmt::format("{}/{}", arguments.identity.type, printable(arguments.identity.id)),
      Color::bold));
  tell_matter(session, explained, now);
  if (!explained.row_missing.empty()) {
    session.say(fmt::format("view       {}: {}", printable(explained.view),
                            printable(explained.row_missing, kValueWidth)));
    return exit_code::ok;
  }
  if (!explained.row) {
    session.say("belongs to no view");
    return exit_code::ok;
  }
  for (const ViewInputInfo& input : explained.state->inputs) {
    session.say(fmt::format("as of      {} {}", printable(input.name),
                            input.position.empty() ? "nothing yet" : printable(input.position)));
  }
  tell_row(session, explained, now);
  return exit_code::ok;
}

}  // namespace

void add_explain_commands(Program& program) {
  auto arguments = std::make_shared<ExplainArguments>();
  CLI::App* verb = program.add_verb(
      "explain", "Say why an identity is as it is: inputs, operators, token, runs", "Look",
      {"dmm explain player kitchen              its row, what it rests on, what became of it",
       "dmm explain player kitchen -o json | jq .row.inputs"},
      [arguments](Session& session) { return explain(session, *arguments); });
  verb->add_option("type", arguments->identity.type, "Type")->required()->type_name("TYPE");
  verb->add_option("id", arguments->identity.id, "Id, as its owner spells it")
      ->required()
      ->type_name("ID");
  verb->add_option("--view", arguments->view,
                   "The view to ask, if it cannot be told from the entry")
      ->type_name("VIEW");
}

}  // namespace dmm::cli
