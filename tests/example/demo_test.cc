// Goal: the demo converges with each style and each place of desired songs, through players that
// misbehave, a killed worker and a power cut, and says so in its summary.
// Method: run the program as a user does and read the JSON that it prints.

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <string>
#include <vector>

#include "dmm/testing/child_process.h"

namespace {

using dmm::testing::ChildOptions;
using dmm::testing::Finished;
using namespace std::chrono_literals;

Finished run_demo(std::vector<std::string> arguments) {
  ChildOptions options;
  options.arguments = {"demo", "-o", "json"};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  return dmm::testing::run(DMM_EXAMPLE, options, 200s);
}

// The summary of a demo that has to converge.
nlohmann::json converging_demo(const std::string& style, const std::string& desired,
                               const std::string& reach = "http") {
  const Finished finished = run_demo(
      {"--style", style, "--reach", reach, "--desired", desired, "--timeout", "150"});
  INFO("standard error: " << finished.error_output);
  INFO("standard output: " << finished.output);
  REQUIRE(finished.status.success());
  return nlohmann::json::parse(finished.output);
}

void check_summary(const nlohmann::json& summary) {
  INFO(summary.dump(2));
  CHECK(summary.at("converged") == true);
  CHECK(summary.at("players") == 12);
  CHECK(summary.at("not_converged").empty());
  REQUIRE(summary.at("scenes").size() == 3);
  for (const auto& scene : summary.at("scenes")) CHECK(scene.at("converged") == true);
  // The trouble was real: somebody asked the players that misbehaved, and failed, and tried again.
  const auto& requests = summary.at("requests");
  CHECK(requests.at("refused") > 0);
  CHECK(requests.at("hung") > 0);
  CHECK(requests.at("error500") > 0);
  // Each player was told three songs or more: after the declaration, after the change, after the
  // power cut.
  CHECK(requests.at("answered") >= 36);
  CHECK(summary.at("take_over_seconds").is_number());
  CHECK(summary.at("second_worker").at("succeeded") >= 24);
}

}  // namespace

TEST_CASE("demo: players that report converge without a database", "[example][integration][push]") {
  check_summary(converging_demo("push", "kv"));
}

TEST_CASE("demo: players that are asked converge without a database",
          "[example][integration][pull]") {
  check_summary(converging_demo("pull", "kv"));
}

TEST_CASE("demo: players that nobody can call converge by commands",
          "[example][integration][push]") {
  check_summary(converging_demo("push", "kv", "command"));
}

TEST_CASE("demo: players that report converge to a table of PostgreSQL",
          "[example][integration][postgres]") {
  check_summary(converging_demo("push", "postgres"));
}

TEST_CASE("demo: players that are asked converge to a table of PostgreSQL",
          "[example][integration][postgres]") {
  check_summary(converging_demo("pull", "postgres"));
}

TEST_CASE("demo: a story that does not end in time fails and says which players are behind",
          "[example][integration][commands]") {
  // Some of the trouble lasts longer than this.
  const Finished finished = run_demo({"--desired", "kv", "--timeout", "3"});
  INFO(finished.error_output);
  CHECK(finished.status.code == 1);
  const auto summary = nlohmann::json::parse(finished.output);
  CHECK(summary.at("converged") == false);
  CHECK_FALSE(summary.at("not_converged").empty());
}
