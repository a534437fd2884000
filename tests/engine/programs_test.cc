// Goal: the laws for whole programs: up to 12 random stages, the optimiser changes nothing, the
// batching of changes does not show.
#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

// Stages that keep the fields k, v, n, l, so that any can follow any other.
json random_stage(Random& random, const std::string& from) {
  const auto field = [&from](const char* name) { return "$." + from + name; };
  switch (random.below(9)) {
    case 0:
      return {{"@select", {{"@gt", {field("n"), static_cast<int>(random.below(4)) - 2}}}}};
    case 1:
      return {{"@select",
               {{"@or", {{{"@eq", {field("k"), random.below(3)}}}, {{"@exists", field("l")}}}}}}};
    case 2:
      return {{"@project",
               {{"k", field("k")},
                {"v", {{"@definedOr", {field("v"), 0}}}},
                {"n", {{"@add", {field("n"), 1}}}},
                {"l", {{"@definedOr", {field("l"), json::array({1, 2})}}}}}}};
    case 3:
      return {{"@project",
               json::array({{{"$.", "$."}},
                            {{"$.o.q", field("k")}},
                            {{"v", {{"@mod", {{{"@len", {{"@string", field("v")}}}}, 3}}}}}})}};
    case 4:
      return {{"@unwind", field("l")}};
    case 5:
      return "@distinct";
    case 6:
      return {{"@select", {{"@not", {{"@eq", {field("v"), nullptr}}}}}}};
    default:
      return {{"@select", {{"@lte", {field("n"), static_cast<int>(random.below(5))}}}}};
  }
}

void add_group(Random& random, json& stages) {
  stages.push_back({{"@groupBy", json::array({random.chance(50) ? "$.k" : "$.v",
                                              random.chance(50) ? json("$.n") : json(nullptr)})}});
  const bool whole = stages.back()["@groupBy"][1].is_null();
  const json list = whole ? json({{"@map", {"$$.n", "$.values"}}}) : json("$.values");
  json projection = {
      {"k", {{"@len", "$.documents"}}}, {"v", "$.key"}, {"l", {{"@bottomk", {2, list}}}}};
  projection["n"] =
      json{{random.chance(50) ? "@sum" : (random.chance(50) ? "@max" : "@avg"), list}};
  if (random.chance(20)) stages.push_back({{"@select", {{"@gt", {{{"@len", "$.values"}}, 1}}}}});
  stages.push_back({{"@project", projection}});
}

json random_pipeline(Random& random, bool joins) {
  json stages = json::array();
  std::string from;
  if (joins) {
    json parts = json::array();
    if (random.chance(80)) parts.push_back({{"@eq", {"$.a.k", "$.b.k"}}});
    if (random.chance(40)) parts.push_back({{"@lt", {"$.a.n", "$.b.n"}}});
    if (random.chance(30)) parts.push_back({{"@eq", {"$.a.v", 1}}});
    const json predicate = {{"@and", parts}};
    stages.push_back(
        {{"@join", random.chance(40) ? json::array({predicate, {{"soft", {"b"}}}}) : predicate}});
    if (random.chance(50)) stages.push_back({{"@select", {{"@neq", {"$.a.k", 2}}}}});
    stages.push_back({{"@project",
                       {{"k", "$.a.k"},
                        {"v", {{"@definedOr", {"$.b.v", "none"}}}},
                        {"n", "$.a.n"},
                        {"l", {{"@definedOr", {"$.a.l", json::array({0})}}}}}}});
  }
  const std::size_t length = 1 + random.below(12);
  while (stages.size() < length) {
    if (random.chance(20) && stages.size() + 2 < length)
      add_group(random, stages);
    else
      stages.push_back(random_stage(random, from));
  }
  return stages;
}

ProgramOptions options_for(bool joins, bool incremental, bool optimise = true) {
  ProgramOptions options = two_inputs(incremental, optimise);
  if (!joins) options.inputs = {{"a", ""}};
  return options;
}

}  // namespace

TEST_CASE("programs: random pipelines of up to 12 stages are incremental", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(400); ++i) {
    Random random(seed + i);
    const bool joins = random.chance(50);
    check_incremental(random_pipeline(random, joins), seed + i, 30, options_for(joins, true),
                      options_for(joins, false));
  }
}

TEST_CASE("programs: the optimiser changes no output", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(400); ++i) {
    Random random(seed + 77777 + i);
    const bool joins = random.chance(70);
    const json pipeline = random_pipeline(random, joins);
    INFO("seed " << seed << " program " << i << " " << pipeline.dump());
    Program fast = Program::compile(pipeline, options_for(joins, true));
    Program plain = Program::compile(pipeline, options_for(joins, true, false));
    Mutator a(random, false);
    Mutator b(random, false);
    StepResult left;
    StepResult right;
    for (int step = 0; step < 25; ++step) {
      StepInput input;
      input.batches["a"] = a.next();
      if (joins) input.batches["b"] = b.next();
      REQUIRE(fast.step(input, left));
      REQUIRE(plain.step(input, right));
      REQUIRE(text_of(sum_of(left.outputs["output"])) == text_of(sum_of(right.outputs["output"])));
    }
  }
}

TEST_CASE("programs: the split of changes into batches does not show", "[laws][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(300); ++i) {
    Random random(seed + 999 + i);
    const bool joins = random.chance(50);
    const json pipeline = random_pipeline(random, joins);
    INFO("seed " << seed << " program " << i << " " << pipeline.dump());
    Program one = Program::compile(pipeline, options_for(joins, true));
    Program many = Program::compile(pipeline, options_for(joins, true));
    Mutator a(random, true);
    Mutator b(random, true);
    Zset sum_one;
    Zset sum_many;
    StepInput large;
    StepResult result;
    for (int step = 0; step < 20; ++step) {
      StepInput small;
      small.batches["a"] = a.next();
      if (joins) small.batches["b"] = b.next();
      for (auto& [name, batch] : small.batches)
        large.batches[name].insert(large.batches[name].end(), batch.begin(), batch.end());
      REQUIRE(many.step(small, result));
      REQUIRE(sum_many.add(result.outputs["output"]));
      if (!random.chance(30) && step != 19) continue;
      REQUIRE(one.step(large, result));
      REQUIRE(sum_one.add(result.outputs["output"]));
      large.batches.clear();
      REQUIRE(text_of(sum_one) == text_of(sum_many));
    }
  }
}

TEST_CASE("programs: state saved and loaded goes on as if nothing had happened", "[state][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (std::uint64_t i = 0; i < steps_of_run(200); ++i) {
    Random random(seed + 4242 + i);
    const bool joins = random.chance(50);
    const json pipeline = random_pipeline(random, joins);
    INFO("seed " << seed << " program " << i << " " << pipeline.dump());
    Program original = Program::compile(pipeline, options_for(joins, true));
    Mutator a(random, true);
    Mutator b(random, true);
    StepResult left;
    StepResult right;
    for (int step = 0; step < 20; ++step) {
      StepInput input;
      input.batches["a"] = a.next();
      if (joins) input.batches["b"] = b.next();
      Program restored = Program::compile(pipeline, options_for(joins, true));
      restored.circuit().load(original.circuit().save());
      REQUIRE(original.step(input, left));
      REQUIRE(restored.step(input, right));
      REQUIRE(text_of(sum_of(left.outputs["output"])) == text_of(sum_of(right.outputs["output"])));
      REQUIRE(text_of(sum_of(left.errors)) == text_of(sum_of(right.errors)));
    }
  }
}
