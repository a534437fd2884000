// Goal: the laws hold over columns that change their kind in mid-run, and a step that is undone
// while columns widen leaves no trace. Method: incremental against snapshot, as in laws_test.cc,
// over documents whose field v goes through all kinds of values, first one by one and then mixed.
#include <new>

#include "engine/error.h"
#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

// A value of kind number `kind`: naturals of one byte first, anything last.
json value_of(Random& random, std::size_t kind) {
  const auto few = static_cast<std::int64_t>(random.below(4));
  switch (kind) {
    case 0:
      return few;
    case 1:
      return 1000 + few;
    case 2:
      return 100000 + few;
    case 3:
      return 4000000000 + few;
    case 4:
      return -few - 1;
    case 5:
      return -5000000000 - few;
    case 6:
      return INT64_MAX - few;
    case 7:
      return 0.5 + static_cast<double>(few);
    case 8:
      return nullptr;
    case 9:
      return few % 2 == 0;
    case 10:
      return "text " + std::to_string(few);
    case 11:
      return json::array({few, "x"});
    default:
      return {{"deep", few}};
  }
}

// Changes whose values widen as the steps go on; deletions reach back to all kinds before.
class Widening {
 public:
  explicit Widening(Random& random) : random_(random) {}
  Batch next(std::size_t step) {
    Batch batch;
    for (std::size_t i = random_.below(4); i > 0; --i) {
      const bool remove = level_.size() > 25 || (!level_.empty() && random_.chance(35));
      const Value row = remove ? level_.row(random_.below(level_.size())).value : fresh(step);
      const Weight weight =
          remove ? -level_.weight(row) : static_cast<Weight>(1 + random_.below(2));
      REQUIRE(level_.add(row, weight));
      batch.push_back(Row{row, weight});
    }
    return batch;
  }
  const Zset& level() const { return level_; }

 private:
  Value fresh(std::size_t step) {
    const std::size_t reached = std::min<std::size_t>(step / 12, 13);
    json row = {{"k", random_.below(3)}, {"v", value_of(random_, random_.below(reached + 1))}};
    if (random_.chance(10)) row.erase("v");
    if (random_.chance(20)) row["n"] = value_of(random_, random_.below(8));
    return from_json(row);
  }
  Random& random_;
  Zset level_;
};

const char* const kPipelines[] = {
    R"([{"@join": {"@eq": ["$.a.k", "$.b.k"]}}])",
    R"([{"@join": {"@eq": ["$.a.v", "$.b.v"]}}])",
    R"([{"@join": {"@and": [{"@eq": ["$.a.k", "$.b.k"]}, {"@eq": ["$.a.v", "$.b.v"]}]}}])",
    R"([{"@join": [{"@eq": ["$.a.v", "$.b.v"]}, {"soft": ["b"]}]}])",
    R"([{"@join": [{"@eq": ["$.a.v", "$.b.v"]}, {"soft": ["b"]}]}, {"@select": {"@isnil": "$.b"}}])",
    R"([{"@join": [{"@and": [{"@eq": ["$.a.k", "$.b.k"]}, {"@neq": ["$.a.v", "$.b.v"]}]}, {"soft": ["b"]}]}])",
    R"([[{"@inputs": ["a"]}, "@distinct", {"@output": "output"}], [{"@inputs": ["b"]}, "@distinct", {"@output": "output"}]])",
    R"([{"@join": {"@eq": ["$.a.k", "$.b.k"]}}, {"@groupBy": ["$.a.k", "$.b.v"]}])",
    R"([{"@join": {"@eq": ["$.a.k", "$.b.k"]}}, {"@groupBy": ["$.a.v", "$.b.n"]}, {"@select": {"@gt": [{"@len": "$.values"}, 1]}},
        {"@project": {"v": "$.key", "n": {"@len": "$.values"}, "s": {"@sum": "$.values"}, "lo": {"@min": "$.values"}}}])",
};

}  // namespace

TEST_CASE("widening: programs are incremental while their columns change kind", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (const char* text : kPipelines)
    for (std::uint64_t run = 0; run < steps_of_run(3); ++run) {
      INFO("seed " << seed << " run " << run << " " << text);
      Random random(seed + run);
      Widening a(random);
      Widening b(random);
      const json pipeline = json::parse(text);
      Program changes = Program::compile(pipeline, two_inputs(true));
      Program whole = Program::compile(pipeline, two_inputs(false));
      Zset output;
      Zset errors;
      StepResult result;
      StepResult expected;
      for (std::size_t step = 0; step < 250; ++step) {
        StepInput delta;
        delta.batches["a"] = a.next(step);
        delta.batches["b"] = b.next(step);
        REQUIRE(changes.step(delta, result));
        REQUIRE(output.add(result.outputs["output"]));
        REQUIRE(errors.add(result.errors));
        StepInput level;
        level.batches["a"] = a.level().rows();
        level.batches["b"] = b.level().rows();
        REQUIRE(whole.step(level, expected));
        REQUIRE(text_of(output) == text_of(sum_of(expected.outputs["output"])));
        REQUIRE(text_of(errors) == text_of(sum_of(expected.errors)));
      }
    }
}

TEST_CASE("widening: a step that is undone leaves no trace", "[circuit][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (const char* text : kPipelines) {
    INFO("seed " << seed << " " << text);
    Random random(seed);
    Widening a(random);
    Widening b(random);
    Program tried = Program::compile(json::parse(text), two_inputs(true));
    Program plain = Program::compile(json::parse(text), two_inputs(true));
    StepResult left;
    StepResult right;
    for (std::size_t step = 0; step < 150; ++step) {
      StepInput input;
      input.batches["a"] = a.next(step);
      input.batches["b"] = b.next(step);
      // The same rows and wider ones, in a step that fails: by an overflow, or by an exception of
      // an observer at the last node that runs.
      StepInput failing = input;
      const Value odd = from_json({{"k", 1}, {"v", value_of(random, random.below(13))}});
      failing.batches["a"].push_back(Row{odd, 1});
      failing.batches["b"].push_back(Row{odd, 3});
      if (step % 2 == 0) {
        failing.batches["a"].push_back(Row{odd, INT64_MAX});
        failing.batches["b"].push_back(Row{odd, INT64_MAX});
        CHECK_FALSE(tried.step(failing, left));
      } else {
        tried.circuit().observe([](std::string_view node, const Operator&, const Batch&) {
          if (node == "output_output") throw std::bad_alloc();
        });
        try {
          static_cast<void>(tried.step(failing, left));
          // Nothing reached the output: take the step back by hand.
          for (auto& [name, batch] : failing.batches)
            for (Row& row : batch) row.weight = -row.weight;
          REQUIRE(tried.step(failing, left));
        } catch (const std::bad_alloc&) {
          CHECK(left.outputs["output"].empty());
        }
        tried.circuit().observe(nullptr);
      }
      REQUIRE(tried.step(input, left));
      REQUIRE(plain.step(input, right));
      REQUIRE(text_of(sum_of(left.outputs["output"])) == text_of(sum_of(right.outputs["output"])));
      REQUIRE(text_of(sum_of(left.errors)) == text_of(sum_of(right.errors)));
    }
  }
}

TEST_CASE("step: what goes round through a delay cannot nest without bound", "[circuit][unit]") {
  Circuit circuit = circuit_from_json(json::parse(R"({"name": "t", "nodes": {
      "input_in": {"type": "input"}, "output_out": {"type": "output"}, "sum": {"type": "plus"},
      "deeper": {"type": "project", "projection": {"x": "$."}}, "z": {"type": "delay"}},
    "edges": [{"from": "input_in", "to": "sum"}, {"from": "z", "to": "sum", "port": 1},
              {"from": "sum", "to": "deeper"}, {"from": "deeper", "to": "z"}, {"from": "deeper", "to": "output_out"}]})"));
  StepInput input;
  input.batches["in"] = {Row{from_json({{"a", 1}}), 1}};
  StepResult result;
  std::size_t steps = 0;
  while (circuit.step(input, result) && steps < 1000) {
    input.batches.clear();
    ++steps;
  }
  CHECK(steps == limits::kStateDepthMax - 1);
  CHECK(result.failure.find("node z would hold a value nested deeper") != std::string::npos);
  const std::string image = circuit.save();
  CHECK_FALSE(circuit.step(input, result));
  CHECK(circuit.save() == image);
}

TEST_CASE("explain: a soft join says when only what it did not match is read", "[explain][unit]") {
  const auto says = [](const char* select) {
    Program program = Program::compile(
        json::parse(std::string(R"([{"@join": [{"@eq": ["$.a.k", "$.b.k"]}, {"soft": ["b"]}]}, )") +
                    select + "]"),
        two_inputs(true));
    return program.explain().find("unmatched") != std::string::npos;
  };
  CHECK(says(R"({"@select": {"@isnil": "$.b"}})"));
  CHECK(says(R"({"@select": {"@and": [{"@isnil": ["$.b"]}, {"@eq": ["$.a.v", 1]}]}})"));
  CHECK_FALSE(says(R"({"@select": {"@and": [{"@eq": ["$.a.v", 1]}, {"@isnil": "$.b"}]}})"));
  CHECK_FALSE(says(R"({"@select": {"@not": {"@isnil": "$.b"}}})"));
  CHECK_FALSE(says(R"({"@select": {"@isnil": "$.b.k"}})"));
  CHECK_FALSE(says(R"({"@select": {"@isnil": "$.a"}})"));
}

TEST_CASE("step: a soft join that is read for what it did not match still pairs null rows",
          "[circuit][unit]") {
  const json pipeline = json::parse(
      R"([{"@join": [{"@eq": [{"@definedOr": ["$.a.k", 0]}, {"@definedOr": ["$.b.k", 0]}]}, {"soft": ["b"]}]},
          {"@select": {"@isnil": "$.b"}}])");
  Program fast = Program::compile(pipeline, two_inputs(true));
  Program plain = Program::compile(pipeline, two_inputs(true, false));
  Zset left;
  Zset right;
  StepResult result;
  const auto step = [&](const char* input, const json& row, Weight weight) {
    StepInput in;
    in.batches[input] = {Row{from_json(row), weight}};
    REQUIRE(fast.step(in, result));
    REQUIRE(left.add(result.outputs["output"]));
    REQUIRE(plain.step(in, result));
    REQUIRE(right.add(result.outputs["output"]));
    CHECK(text_of(left) == text_of(right));
  };
  step("b", nullptr, 2);
  step("a", {{"k", 0}}, 1);
  step("b", {{"k", 0}}, 1);
  step("a", {{"k", 0}, {"v", 1}}, 3);
  step("b", nullptr, -2);
  step("b", {{"k", 0}}, -1);
  step("b", nullptr, 1);
}
