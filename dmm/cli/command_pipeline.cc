// pipeline check, explain, run: develop a pipeline at the desk. None of them needs a server.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <sstream>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/pipeline_file.h"
#include "dmm/cli/pipeline_run.h"
#include "dmm/cli/program.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kLineBytesMax = 100'000;
constexpr std::uint64_t kBatchMax = 1'000'000'000;

// The paths at the leaves of a tree of fields; a member name that is no plain word in brackets.
void add_paths(const engine::Fields& fields, const std::string& before, nlohmann::json& paths) {
  if (fields.whole()) {
    paths.push_back(before);
    return;
  }
  for (const auto& [name, below] : fields.members()) {
    const bool word = !name.empty() && name.find_first_of(".[]'\" ") == std::string::npos;
    add_paths(below,
              word ? fmt::format("{}.{}", before, name) : fmt::format("{}['{}']", before, name),
              paths);
  }
}

// What is read of an input: ["$"] the whole document, [] only that it is there.
nlohmann::json fields_of(const engine::Program& program, const std::string& input) {
  auto paths = nlohmann::json::array();
  const auto& plan = program.plan();
  const auto known = plan ? plan->fields.find(input) : decltype(plan->fields.find(input)){};
  if (!plan || known == plan->fields.end()) {
    paths.push_back("$");
  } else {
    add_paths(known->second, "$", paths);
  }
  return paths;
}

nlohmann::json document_of(const std::string& file, const engine::Program& program) {
  nlohmann::json document{{"file", file},
                          {"ok", true},
                          {"mode", program.circuit().incremental() ? "incremental" : "snapshot"},
                          {"inputs", nlohmann::json::array()},
                          {"outputs", nlohmann::json::array()},
                          {"nodes", program.circuit().nodes().size()}};
  for (const auto& [name, node] : program.circuit().inputs()) {
    document["inputs"].push_back({{"name", name}, {"fields", fields_of(program, name)}});
  }
  for (const auto& [name, node] : program.circuit().outputs()) document["outputs"].push_back(name);
  return document;
}

std::string shown(const nlohmann::json& fields) {
  if (fields.empty()) return "nothing";
  std::string text;
  for (const auto& field : fields) {
    const auto& path = field.get_ref<const std::string&>();
    text +=
        fmt::format("{}{}", text.empty() ? "" : ", ", path == "$" ? "the whole document" : path);
  }
  return text;
}

int check(Session& session, const std::string& file) {
  const engine::Program program = compile_pipeline(file, read_pipeline(file));
  const nlohmann::json document = document_of(file, program);
  if (session.json()) {
    session.show(document);
    return exit_code::ok;
  }
  session.say(fmt::format("{}: ok, {}", printable(file),
                          program.circuit().incremental() ? "takes and gives changes"
                                                          : "takes and gives whole collections"));
  for (const auto& input : document["inputs"]) {
    session.say(fmt::format("input {} uses {}", printable(input["name"].get<std::string>()),
                            printable(shown(input["fields"]), kLineBytesMax)));
  }
  for (const auto& output : document["outputs"]) {
    session.say(fmt::format("output {}", printable(output.get<std::string>())));
  }
  return exit_code::ok;
}

int explain(Session& session, const std::string& file) {
  const engine::Program program = compile_pipeline(file, read_pipeline(file));
  if (session.json()) {
    session.show(program.explain_json());
    return exit_code::ok;
  }
  std::istringstream lines(program.explain());
  for (std::string line; std::getline(lines, line);) {
    session.out().write(printable(line, kLineBytesMax) + "\n");
  }
  return exit_code::ok;
}

void add_file(CLI::App* verb, std::string& file) {
  verb->add_option("file", file, "Pipeline, JSON or YAML; \"-\": standard input")
      ->required()
      ->type_name("FILE");
}

void add_run(Program& program, CLI::App& family) {
  auto options = std::make_shared<PipelineRunOptions>();
  CLI::App* verb = program.add_verb_to(
      family, "run", "Feed changes to a pipeline and show the changes of its outputs",
      {"dmm pipeline run p.yaml < changes.jsonl          a step for each line",
       "dmm pipeline run p.yaml                           type the changes",
       "dmm pipeline run p.yaml a.jsonl b.jsonl --batch 1000",
       "dmm pipeline run p.yaml a.jsonl --snapshot        is the result right at every step?",
       "dmm pipeline run p.yaml a.jsonl --now 2026-01-31T12:00:00Z --seed 7",
       "dmm pipeline run p.yaml a.jsonl --save-state s    and later, with b.jsonl:",
       "dmm pipeline run p.yaml b.jsonl --load-state s", "",
       "A line is a change, the end of a step, or a whole step:",
       "  {\"input\":\"pods\",\"row\":{\"name\":\"a\"},\"weight\":1}   weight -1 takes it back",
       "  {\"step\":{}}                       also {\"step\":{\"now\":...,\"seed\":...}}",
       "  {\"in\":{\"pods\":[[{\"name\":\"a\"},1]]}}"},
      [options](Session& session) { return run_pipeline(session, *options); });
  add_file(verb, options->file);
  verb->add_option("changes", options->changes, "JSON Lines; \"-\" or nothing: standard input")
      ->type_name("FILE...");
  verb->add_option("--batch", options->batch,
                   "Rows of a step; 0: steps end only where the input says so")
      ->check(CLI::Range(std::uint64_t{0}, kBatchMax))
      ->capture_default_str()
      ->type_name("N");
  verb->add_flag("--snapshot", options->snapshot,
                 "Compare each step with the pipeline over the whole input");
  verb->add_option("--now", options->now, "What @now says: RFC 3339 in UTC or seconds since 1970")
      ->type_name("TIME");
  verb->add_option("--seed", options->seed, "What @rnd draws from")
      ->capture_default_str()
      ->type_name("N");
  verb->add_option("--load-state", options->load_state, "Begin with this state")->type_name("FILE");
  verb->add_option("--save-state", options->save_state, "Write the state at the end")
      ->type_name("FILE");
}

}  // namespace

void add_pipeline_commands(Program& program) {
  CLI::App* family = program.add_family(
      "pipeline", "Develop a pipeline: check, explain and run it without a server", "Start",
      {"dmm pipeline check songs.yaml", "dmm pipeline explain songs.yaml",
       "dmm pipeline run songs.yaml changes.jsonl --snapshot"});
  auto checked = std::make_shared<std::string>();
  add_file(program.add_verb_to(
               *family, "check", "Say whether a pipeline compiles, and what it reads and writes",
               {"dmm pipeline check endpoints.yaml", "dmm pipeline check endpoints.yaml -o json"},
               [checked](Session& session) { return check(session, *checked); }),
           *checked);
  auto explained = std::make_shared<std::string>();
  add_file(
      program.add_verb_to(*family, "explain", "Show the plan and the circuit of a pipeline",
                          {"dmm pipeline explain endpoints.yaml",
                           "dmm pipeline explain endpoints.yaml -o json | jq .circuit.nodes[].id"},
                          [explained](Session& session) { return explain(session, *explained); }),
      *explained);
  add_run(program, *family);
}

}  // namespace dmm::cli
