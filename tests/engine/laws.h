#pragma once

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "engine/program.h"
#include "random.h"

namespace dmm::engine::testing {

inline std::string text_of(const Zset& zset) {
  std::string text;
  for (const Row& row : zset.rows())
    text += to_text(row.value) + " x" + std::to_string(row.weight) + "\n";
  return text;
}

inline Zset sum_of(const Batch& batch) {
  Zset result;
  REQUIRE(result.add(batch));
  return result;
}

inline ProgramOptions two_inputs(bool incremental, bool optimise = true) {
  ProgramOptions options;
  options.inputs = {{"a", ""}, {"b", ""}};
  options.optimise = optimise;
  if (!incremental) options.transforms.clear();
  return options;
}

/// Runs `pipeline` on random changes and compares, at every step, the sum of what the incremental
/// program gave (errors too) with what the snapshot program gives for the whole collections.
inline void check_incremental(const nlohmann::json& pipeline, std::uint64_t seed, std::size_t steps,
                              ProgramOptions incremental = two_inputs(true),
                              ProgramOptions snapshot = two_inputs(false)) {
  INFO("seed " << seed << " pipeline " << pipeline.dump());
  Random random(seed);
  Mutator a(random, true);
  Mutator b(random, true);
  Program changes = Program::compile(pipeline, incremental);
  Program whole = Program::compile(pipeline, snapshot);
  Zset output;
  Zset errors;
  StepResult result;
  StepResult expected;
  for (std::size_t step = 0; step < steps; ++step) {
    StepInput delta;
    delta.batches["a"] = a.next();
    if (incremental.inputs.size() > 1) delta.batches["b"] = b.next();
    REQUIRE(changes.step(delta, result));
    REQUIRE(output.add(result.outputs["output"]));
    REQUIRE(errors.add(result.errors));
    StepInput level;
    level.batches["a"] = a.level().rows();
    if (incremental.inputs.size() > 1) level.batches["b"] = b.level().rows();
    REQUIRE(whole.step(level, expected));
    const Zset wanted = sum_of(expected.outputs["output"]);
    const Zset wanted_errors = sum_of(expected.errors);
    if (output == wanted && errors == wanted_errors) continue;
    INFO("step " << step << "\nlevel a\n"
                 << text_of(a.level()) << "level b\n"
                 << text_of(b.level()));
    REQUIRE(text_of(output) == text_of(wanted));
    REQUIRE(text_of(errors) == text_of(wanted_errors));
  }
}

}  // namespace dmm::engine::testing
