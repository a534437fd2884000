// Goal: a simulation is the same each time, and a plan can be made smaller.

#include "tests/simulation/simulation.h"

#include <catch2/catch.hpp>

#include "tests/simulation/shrink.h"

namespace dmm::simulation {

namespace {

std::string text_of(const Verdict& verdict) {
  std::string text;
  for (const std::string& line : verdict.history) text += line + '\n';
  for (const Violation& one : verdict.violations) text += one.promise + ": " + one.text + '\n';
  return text;
}

}  // namespace

TEST_CASE("simulation: the same seed is the same history byte by byte", "[simulation][unit]") {
  std::string before;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    INFO(seed);
    const Plan plan = make_plan(seed, {.meters = true, .lamps = true});
    const RunOptions options{.history = true, .logs = true};
    const std::string first = text_of(simulate(plan, options));
    CHECK(first == text_of(simulate(plan, options)));
    CHECK(first.size() > 10'000);
    CHECK(first != before);
    before = first;
  }
}

TEST_CASE("simulation: a plan without steps breaks nothing", "[simulation][unit]") {
  Plan plan = make_plan(1, {.meters = true, .lamps = true});
  plan.steps.clear();
  const Verdict verdict = simulate(plan, {});
  INFO(text_of(verdict));
  CHECK(verdict.violations.empty());
  CHECK(verdict.runs > 0);  // of the calm
}

TEST_CASE("simulation: a plan that breaks a promise is made smaller", "[simulation][unit]") {
  const RunOptions options{.bug = Bug::drop_news};
  for (std::uint64_t seed = 1;; ++seed) {
    REQUIRE(seed < 50);
    const Plan plan = make_plan(seed, {});
    const Verdict verdict = simulate(plan, options);
    if (verdict.violations.empty()) continue;
    const std::string promise = verdict.violations.front().promise;
    const Plan least = shrink(plan, options, promise, std::chrono::seconds(20));
    CHECK(least.steps.size() < plan.steps.size());
    const Verdict again = simulate(least, options);
    REQUIRE_FALSE(again.violations.empty());
    CHECK(again.violations.front().promise == promise);
    return;
  }
}

}  // namespace dmm::simulation
