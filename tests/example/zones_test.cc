// Goal: a change of one playlist touches exactly the players of its zone.
// Method: run the demo of zones as a user does and read the JSON that it prints.

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <string>

#include "dmm/testing/child_process.h"

TEST_CASE("zones: a changed playlist touches exactly the players of its zone",
          "[example][integration][zones]") {
  const std::string desired = GENERATE("kv", "postgres");
  dmm::testing::ChildOptions options;
  options.arguments = {"demo",  "--zones", "4",    "--players", "12", "--desired",
                       desired, "-o",      "json", "--timeout", "60"};
  const auto finished = dmm::testing::run(DMM_EXAMPLE, options, std::chrono::seconds(200));
  INFO("standard error: " << finished.error_output);
  INFO("standard output: " << finished.output);
  REQUIRE(finished.status.success());
  const auto summary = nlohmann::json::parse(finished.output);
  CHECK(summary.at("converged") == true);
  CHECK(summary.at("players") == 12);
  CHECK(summary.at("players_of_zone") == nlohmann::json{"p1", "p5", "p9"});
  CHECK(summary.at("touched") == nlohmann::json{"p1", "p5", "p9"});
  // Each for the new song, and for its own report of it.
  CHECK(summary.at("notified") == 6);
  CHECK(summary.at("healed") == true);
  CHECK(summary.at("touched_by_reboot") == nlohmann::json{"p1"});
}

TEST_CASE("zones: the demo of zones refuses what belongs to the other one",
          "[example][integration][zones]") {
  dmm::testing::ChildOptions options;
  options.arguments = {"demo", "--zones", "4", "--style", "pull"};
  CHECK(dmm::testing::run(DMM_EXAMPLE, options).status.code == 2);
  options.arguments = {"demo", "--zones", "0"};
  CHECK(dmm::testing::run(DMM_EXAMPLE, options).status.code == 2);
}
