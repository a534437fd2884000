// Goal: I ∘ Q^Δ = Q ∘ I, for every operator alone and for programs of many stages, on changes with
// deletions, updates, duplicates and weights below zero. Method: the incremental program against
// the same program over whole collections, which starts from nothing in every step. What the
// operators mean is checked against independent models in oracle_test.cc.
#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

ProgramOptions one_input(bool incremental) {
  ProgramOptions options = two_inputs(incremental);
  options.inputs = {{"a", ""}};
  return options;
}

void check_one(const char* pipeline) {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  check_incremental(json::parse(pipeline), seed, steps_of_run(10000), one_input(true),
                    one_input(false));
}

void check_two(const char* pipeline) {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  check_incremental(json::parse(pipeline), seed, steps_of_run(10000));
}

}  // namespace

TEST_CASE("laws: select is incremental", "[laws][unit]") {
  check_one(R"([{"@select": {"@gt": ["$.n", 0]}}])");
}
TEST_CASE("laws: project is incremental", "[laws][unit]") {
  check_one(R"([{"@project": {"k": "$.k", "w": {"@add": ["$.v", 1]}}}])");
}
TEST_CASE("laws: unwind is incremental", "[laws][unit]") {
  check_one(R"([{"@unwind": "$.l"}])");
}
TEST_CASE("laws: distinct is incremental", "[laws][unit]") {
  check_one(R"([{"@project": {"k": {"@definedOr": ["$.k", 9]}}}, "@distinct"])");
}
TEST_CASE("laws: groupBy with lists is incremental", "[laws][unit]") {
  check_one(R"([{"@groupBy": ["$.k", "$.v"]}])");
}
TEST_CASE("laws: distinct groupBy is incremental", "[laws][unit]") {
  check_one(R"([{"@groupBy": ["$.k", "$.v", {"distinct": true}]}])");
}
TEST_CASE("laws: numeric folds are incremental", "[laws][unit]") {
  check_one(R"([{"@groupBy": ["$.k", "$.n"]}, {"@project": {"k": "$.key", "c": {"@len": "$.values"},
    "s": {"@sum": "$.values"}, "a": {"@avg": "$.values"}, "lo": {"@min": "$.values"}, "hi": {"@max": "$.values"},
    "t": {"@topk": [2, "$.values"]}, "b": {"@bottomk": [2, "$.values"]}}}])");
}
TEST_CASE("laws: folds over mixed values report their errors incrementally", "[laws][unit]") {
  check_one(R"([{"@groupBy": ["$.k", "$.v"]}, {"@project": {"k": "$.key", "s": {"@sum": "$.values"},
    "lo": {"@lexmin": "$.values"}, "hi": {"@lexmax": "$.values"}}}])");
}
TEST_CASE("laws: folds over mapped elements are incremental", "[laws][unit]") {
  check_one(
      R"([{"@groupBy": ["$.k", null]}, {"@project": {"k": "$.key", "s": {"@sum": {"@map": ["$$.n", "$.values"]}},
    "m": {"@max": {"@map": [{"@mul": ["$$.n", 3]}, "$.documents"]}}, "n": {"@len": "$.documents"}}}])");
}
TEST_CASE("laws: the cartesian product is incremental", "[laws][unit]") {
  check_two(
      R"([{"@join": {"@lt": ["$.a.n", "$.b.n"]}}, {"@project": {"a": "$.a.n", "b": "$.b.n"}}])");
}
TEST_CASE("laws: the equi-join is incremental", "[laws][unit]") {
  check_two(R"([{"@join": {"@eq": ["$.a.k", "$.b.k"]}}])");
}
TEST_CASE("laws: the equi-join with a residual is incremental", "[laws][unit]") {
  check_two(
      R"([{"@join": {"@and": [{"@eq": ["$.a.k", "$.b.k"]}, {"@eq": ["$.a.v", "$.b.v"]}, {"@lt": ["$.a.n", "$.b.n"]}]}}])");
}
TEST_CASE("laws: the soft join is incremental", "[laws][unit]") {
  check_two(R"([{"@join": [{"@eq": ["$.a.k", "$.b.k"]}, {"soft": ["b"]}]}])");
}
TEST_CASE("laws: the soft join with a residual is incremental", "[laws][unit]") {
  check_two(
      R"([{"@join": [{"@and": [{"@eq": ["$.a.k", "$.b.k"]}, {"@lt": ["$.a.n", "$.b.n"]}]}, {"soft": ["b"]}]}])");
}
TEST_CASE("laws: the union is incremental", "[laws][unit]") {
  check_two(R"([[{"@inputs": ["a"]}, {"@project": {"k": "$.k"}}, {"@output": "output"}],
                [{"@inputs": ["b"]}, {"@project": {"k": "$.n"}}, {"@output": "output"}]])");
}

TEST_CASE("laws: circuits by hand are incremental", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  const char* middle = GENERATE(
      R"({"x": {"type": "negate"}})", R"({"x": {"type": "noop"}})", R"({"x": {"type": "delay"}})",
      R"({"x": {"type": "linear_combination", "coeffs": [3]}})", R"({"x": {"type": "distinct"}})");
  json source = {{"name", "t"}, {"nodes", json::parse(middle)}};
  source["nodes"]["input_in"] = {{"type", "input"}};
  source["nodes"]["output_out"] = {{"type", "output"}};
  source["edges"] = {{{"from", "input_in"}, {"to", "x"}}, {{"from", "x"}, {"to", "output_out"}}};
  Circuit whole = circuit_from_json(source);
  Circuit changes = apply(whole, Transform{});
  Random random(seed);
  Mutator mutator(random, true);
  Zset output;
  StepResult result;
  StepResult expected;
  for (std::size_t step = 0; step < steps_of_run(10000); ++step) {
    StepInput delta;
    delta.batches["in"] = mutator.next();
    StepInput level;
    level.batches["in"] = mutator.level().rows();
    REQUIRE(changes.step(delta, result));
    REQUIRE(output.add(result.outputs["out"]));
    REQUIRE(whole.step(level, expected));
    REQUIRE(text_of(output) == text_of(sum_of(expected.outputs["out"])));
  }
}

TEST_CASE("laws: integrate and differentiate are inverse to each other", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  const bool integrate_first = GENERATE(true, false);
  const char* first = integrate_first ? "integrate" : "differentiate";
  const json source = {{"name", "t"},
                       {"nodes",
                        {{"input_in", {{"type", "input"}}},
                         {"x", {{"type", first}}},
                         {"y", {{"type", integrate_first ? "differentiate" : "integrate"}}},
                         {"output_out", {{"type", "output"}}}}},
                       {"edges",
                        {{{"from", "input_in"}, {"to", "x"}},
                         {{"from", "x"}, {"to", "y"}},
                         {{"from", "y"}, {"to", "output_out"}}}}};
  Circuit wired = circuit_from_json(source);
  Random random(seed);
  Mutator mutator(random, true);
  StepResult result;
  for (std::size_t step = 0; step < steps_of_run(10000); ++step) {
    StepInput input;
    input.batches["in"] = mutator.next();
    REQUIRE(wired.step(input, result));
    REQUIRE(text_of(sum_of(result.outputs["out"])) == text_of(sum_of(input.batches["in"])));
  }
}

TEST_CASE("laws: delta0 passes the first step and nothing later", "[laws][unit]") {
  const json source =
      json::parse(R"({"name": "t", "nodes": {"input_in": {"type": "input"}, "d": {"type": "delta0"},
    "output_out": {"type": "output"}}, "edges": [{"from": "input_in", "to": "d"}, {"from": "d", "to": "output_out"}]})");
  Random random(seed_of_run());
  for (int run = 0; run < 1000; ++run) {
    Circuit circuit = circuit_from_json(source);
    Mutator mutator(random, true);
    StepResult result;
    for (int step = 0; step < 10; ++step) {
      StepInput input;
      input.batches["in"] = mutator.next();
      REQUIRE(circuit.step(input, result));
      REQUIRE(text_of(sum_of(result.outputs["out"])) ==
              (step == 0 ? text_of(sum_of(input.batches["in"])) : ""));
    }
  }
}
