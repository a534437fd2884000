// engine_conformance FILE.jsonl: runs the cases of a file (docs/reference/conformance.md) and
// prints "N passed, M failed, K skipped", and each failing case with what was expected and what
// came.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/expression/expression.h"
#include "engine/program.h"

namespace {

using namespace dmm::engine;
using nlohmann::json;

struct Outcome {
  enum class Type { passed, failed, skipped } type = Type::passed;
  std::string expected;
  std::string actual;
};

Outcome failed(const std::string& expected, const std::string& actual) {
  return {Outcome::Type::failed, expected, actual};
}

// Sorts the lists at a path ("a.b", "[]" for the elements of a list): their order means nothing.
void sort_lists(json& at, const std::string& path) {
  const std::size_t dot = path.find('.');
  const std::string name = path.substr(0, dot);
  const std::string rest = dot == std::string::npos ? "" : path.substr(dot + 1);
  if (path.empty()) {
    if (at.is_array()) std::sort(at.begin(), at.end());
  } else if (name == "[]") {
    if (at.is_array())
      for (json& item : at) sort_lists(item, rest);
  } else if (at.is_object() && at.contains(name)) {
    sort_lists(at[name], rest);
  }
}

// The one form of a batch in which two of them can be compared.
std::string canonical(const json& rows, const json& unordered) {
  Zset sum;
  for (const json& row : rows) {
    json document = row[0];
    for (const json& path : unordered) sort_lists(document, path.get<std::string>());
    if (!sum.add(from_json(document), row[1].get<Weight>())) return "overflow";
  }
  std::string text;
  for (const Row& row : sum.rows())
    text += (text.empty() ? "" : ", ") + to_text(row.value) + " x" + std::to_string(row.weight);
  return "[" + text + "]";
}

json rows_of(const Batch& batch) {
  json rows = json::array();
  for (const Row& row : batch) rows.push_back({to_json(row.value), row.weight});
  return rows;
}

Outcome run_expression(const json& test) {
  StepTime time{1700000000, 7};
  Scope scope(time);
  std::string error;
  Value value;
  const Value document = from_json(test.value("doc", json(nullptr)));
  const Value subject = from_json(test.value("subject", json(nullptr)));
  try {
    const ExpressionPtr expression = compile_expression(test["expr"]);
    scope.reset(document);
    if (test.contains("subject")) scope.set_subject(subject);
    if (!expression->eval(scope, value)) error = scope.failure().message;
    if (error.empty() && scope.failure().type != Failure::Type::none)
      error = scope.failure().message;
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  if (test.contains("err"))
    return error.empty() ? failed("an error: " + test["err"].get<std::string>(), to_text(value))
                         : Outcome{};
  const std::string expected = to_text(from_json(test["value"]));
  if (!error.empty()) return failed(expected, "error: " + error);
  if (value == from_json(test["value"])) return {};
  return failed(expected, to_text(value));
}

Outcome check_step(const json& test, const json& step, const StepResult& result) {
  const std::string error = !result.failure.empty() ? result.failure
                            : result.errors.empty() ? ""
                                                    : to_text(result.errors.front().value);
  if (step.contains("err")) {
    if (error.find(step["err"].get<std::string>()) != std::string::npos) return {};
    return failed("an error: " + step["err"].get<std::string>(), error.empty() ? "none" : error);
  }
  if (!error.empty()) return failed("no error", error);
  json expected = step.value("out", json::array());
  if (!expected.is_object()) expected = json{{result.outputs.begin()->first, expected}};
  const json unordered = test.value("unordered", json::array());
  for (const auto& [name, batch] : result.outputs) {
    const std::string wanted = canonical(expected.value(name, json::array()), unordered);
    const std::string got = canonical(rows_of(batch), unordered);
    if (wanted != got) return failed(name + " " + wanted, name + " " + got);
  }
  for (const auto& [name, rows] : expected.items())
    if (!result.outputs.contains(name) && !rows.empty())
      return failed("an output " + name, "none of that name");
  return {};
}

Outcome run_steps(const json& test) {
  ProgramOptions options;
  options.transforms.clear();
  std::string error;
  try {
    Program program = Program::parse(test.dump(), options);
    if (test.contains("err"))
      return failed("an error: " + test["err"].get<std::string>(), "compiled");
    std::size_t number = 0;
    for (const json& step : test.value("steps", json::array())) {
      StepInput input;
      for (const auto& [name, rows] : step["in"].items())
        for (const json& row : rows)
          input.batches[name].push_back(Row{from_json(row[0]), row[1].get<Weight>()});
      StepResult result;
      if (!program.step(input, result) && result.failure.empty())
        return failed("a step", "failed without a reason");
      Outcome outcome = check_step(test, step, result);
      if (outcome.type != Outcome::Type::passed) {
        outcome.expected = "step " + std::to_string(number) + ": " + outcome.expected;
        return outcome;
      }
      ++number;
    }
    return {};
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  if (test.contains("err")) return {};
  return failed("a program", "error: " + error);
}

// What a case expects after the correction that its note asks for.
json corrected(json test, const std::map<std::string, json>& corrections) {
  if (!test.value("quirk", false)) return test;
  const auto it = corrections.find(test["name"].get<std::string>());
  if (it == corrections.end()) return test;
  const json& correction = it->second;
  if (correction.value("accept", false)) test.erase("err");
  if (correction.contains("value")) {
    test.erase("err");
    test["value"] = correction["value"];
  }
  if (correction.contains("steps")) {
    for (std::size_t i = 0; i < correction["steps"].size(); ++i) {
      test["steps"][i]["out"] = correction["steps"][i];
      test["steps"][i].erase("err");
    }
  }
  return test;
}

std::map<std::string, json> read_corrections(const char* path) {
  std::map<std::string, json> result;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) {
      json correction = json::parse(line);
      result[correction["name"].get<std::string>()] = correction;
    }
  return result;
}

Outcome run(const json& test) {
  if (test.contains("sql")) return {Outcome::Type::skipped, "", ""};
  if (test.contains("expr")) return run_expression(test);
  if (test.contains("pipeline") || test.contains("circuit")) return run_steps(test);
  return {Outcome::Type::skipped, "", ""};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: engine_conformance FILE.jsonl [CORRECTIONS.jsonl]\n";
    return 2;
  }
  std::ifstream file(argv[1]);
  if (!file) {
    std::cerr << "cannot read " << argv[1] << "\n";
    return 2;
  }
  const auto corrections = read_corrections(argc == 3 ? argv[2] : DMM_CORRECTIONS);
  std::size_t passed = 0;
  std::size_t skipped = 0;
  std::size_t failures = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    try {
      const json test = corrected(json::parse(line), corrections);
      const Outcome outcome = run(test);
      if (outcome.type == Outcome::Type::passed) {
        ++passed;
      } else if (outcome.type == Outcome::Type::skipped) {
        ++skipped;
      } else {
        ++failures;
        std::cout << "FAILED " << test["name"].get<std::string>()
                  << (test.value("quirk", false) ? " (quirk)" : "") << "\n  expected "
                  << outcome.expected << "\n  actual   " << outcome.actual << "\n";
        if (test.contains("note"))
          std::cout << "  note     " << test["note"].get<std::string>() << "\n";
      }
    } catch (const std::exception& error) {
      ++failures;
      std::cout << "FAILED " << line.substr(0, 80) << "\n  error " << error.what() << "\n";
    }
  }
  std::cout << passed << " passed, " << failures << " failed, " << skipped << " skipped\n";
  return failures == 0 ? 0 : 1;
}
