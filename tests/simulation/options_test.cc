// Goal: the options of the simulator are read as they are documented, and what is wrong is named.

#include "tests/simulation/options.h"

#include <catch2/catch.hpp>

#include <stdexcept>
#include <vector>

#include "tests/simulation/plan.h"

namespace dmm::simulation {

namespace {

Options parse(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  arguments.insert(arguments.begin(), "dmm_simulate");
  for (std::string& one : arguments) argv.push_back(one.data());
  return parse_options(static_cast<int>(argv.size()), argv.data());
}

}  // namespace

TEST_CASE("options: they are read", "[simulation][unit]") {
  CHECK(parse({}).seeds == 500);
  CHECK(parse({}).from == 1);
  const Options options =
      parse({"--seeds", "10000", "--from", "7", "--bug", "no-lease", "--jobs", "3"});
  CHECK(options.seeds == 10'000);
  CHECK(options.from == 7);
  CHECK(options.bug == Bug::no_lease);
  CHECK(options.jobs == 3);
  CHECK(parse({"--logs"}).logs);
  CHECK(parse({"--history"}).history);
  CHECK(parse({"--help"}).help);
}

TEST_CASE("options: what is wrong is refused", "[simulation][unit]") {
  CHECK_THROWS_AS(parse({"--seeds"}), std::invalid_argument);
  CHECK_THROWS_AS(parse({"--seeds", "0"}), std::invalid_argument);
  CHECK_THROWS_AS(parse({"--seeds", "many"}), std::invalid_argument);
  CHECK_THROWS_AS(parse({"--jobs", "257"}), std::invalid_argument);
  CHECK_THROWS_AS(parse({"--bug", "none"}), std::invalid_argument);
  CHECK_THROWS_AS(parse({"--wrong", "1"}), std::invalid_argument);
}

TEST_CASE("options: every bug has a name and breaks a promise", "[simulation][unit]") {
  for (const Bug bug : all_bugs()) {
    CHECK(bug_called(to_string(bug)) == bug);
    CHECK(broken_by(bug) != "none");
  }
  CHECK(usage().find("view-chatty") != std::string::npos);
}

TEST_CASE("plan: a seed is a plan", "[simulation][unit]") {
  const Plan plan = make_plan(11, {});
  const Plan same = make_plan(11, {});
  REQUIRE(plan.steps.size() == same.steps.size());
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    CHECK(to_string(plan.steps[i]) == to_string(same.steps[i]));
    CHECK(plan.steps[i].at == same.steps[i].at);
  }
  CHECK(make_plan(12, {.lamps = true}).lamps > 0);
  CHECK(make_plan(12, {.meters = true}).meters > 0);
}

}  // namespace dmm::simulation
