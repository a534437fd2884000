// Goal: what the page "Getting started with resources" says does what it says.
// Method: its program, compiled as it stands, and the statements that it types, against real
// servers.

#include "fixture.h"

#include <csignal>
#include <fstream>
#include <sstream>

#include "dmm/testing/child_process.h"

namespace dmm::resource {

namespace {

std::string page() {
  std::ifstream file(DMM_TEST_PAGE);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// What stands between two marks, the first time.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const auto begin = text.find(from);
  REQUIRE(begin != std::string::npos);
  const auto end = text.find(to, begin + from.size());
  REQUIRE(end != std::string::npos);
  return text.substr(begin + from.size(), end - begin - from.size());
}

testing::ChildOptions child_of(const Scene& scene, std::vector<std::string> arguments = {}) {
  testing::ChildOptions child;
  child.arguments = std::move(arguments);
  child.environment["DMM_POSTGRES"] = scene.connection();
  child.environment["DMM_SERVER"] = scene.nats.url();
  child.environment["DMM_NAMESPACE"] = "shop";
  return child;
}

std::string said_by(const Scene& scene, std::vector<std::string> arguments) {
  const auto finished = testing::run(DMM_CLI, child_of(scene, std::move(arguments)), 60s);
  INFO(finished.output << finished.error_output);
  REQUIRE(finished.status.success());
  return finished.output;
}

}  // namespace

TEST_CASE("page: the program of getting started works what its SQL informs",
          "[resource][resource_cli][integration]") {
  Scene scene;
  scene.db.exec("DROP SCHEMA dmm CASCADE; DROP TABLE IF EXISTS public.orders");
  said_by(scene, {"resource", "migrate", "up"});
  testing::ChildProcess billing(DMM_TEST_BILLING, child_of(scene));
  scene.db.exec(between(page(), "<<'SQL'\n", "\nSQL\n"));
  wait_state(scene.client, {"customer", "ada@example.com"}, State::synced, 30s);
  CHECK(said_by(scene, {"resource", "ls"}).find("ada@example.com") != std::string::npos);
  CHECK(scene.db.number("SELECT count(*) FROM orders") == 1);
  billing.kill(SIGTERM);
  const auto status = billing.wait(30s);
  REQUIRE(status);
  CHECK(status->success());
  CHECK(billing.output() == "ada@example.com is Ada\n");
  scene.db.exec("DROP TABLE public.orders");
}

}  // namespace dmm::resource
