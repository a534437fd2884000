// Goal: the commands of the example do by hand what the demo shows, and refuse bad input with a
// message and an exit code.
// Method: a private nats-server, each command a process of its own.

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/wait_for.h"

namespace {

using dmm::testing::ChildOptions;
using dmm::testing::ChildProcess;
using dmm::testing::Finished;
using namespace std::chrono_literals;

class Workplace {
 public:
  Workplace() : url_("http://127.0.0.1:" + std::to_string(port_)) {}

  Finished run(std::vector<std::string> arguments) const {
    return dmm::testing::run(DMM_EXAMPLE, options(std::move(arguments)), 60s);
  }
  std::unique_ptr<ChildProcess> start(std::vector<std::string> arguments) const {
    return std::make_unique<ChildProcess>(DMM_EXAMPLE, options(std::move(arguments)));
  }
  std::unique_ptr<ChildProcess> start_device(std::vector<std::string> arguments = {}) const {
    arguments.insert(arguments.begin(), {"device", "--port", std::to_string(port_), "--players",
                                         "3", "--report-every", "500"});
    return start(std::move(arguments));
  }

  // What `example debug -o json` says of a player; null if it says nothing.
  nlohmann::json player(const std::string& name) const {
    const Finished finished = run({"debug", "-o", "json"});
    const auto players = nlohmann::json::parse(finished.output, nullptr, false);
    if (!players.is_array()) return nullptr;
    for (const auto& one : players) {
      if (one.at("player") == name) return one;
    }
    return nullptr;
  }
  void wait_until_converged(const std::string& name, const std::string& song) const {
    dmm::testing::wait_for(
        name + " to play " + song,
        [&] {
          const auto one = player(name);
          return one.is_object() && one.at("playing") == song && one.at("converged") == true;
        },
        60s);
  }

 private:
  ChildOptions options(std::vector<std::string> arguments) const {
    ChildOptions options;
    options.arguments = std::move(arguments);
    options.environment = {
        {"DMM_SERVER", nats_.url()}, {"MUSIC_DESIRED", "kv"}, {"MUSIC_PLAYERS_URL", url_}};
    return options;
  }

  dmm::testing::NatsServer nats_;
  const int port_ = dmm::testing::free_port();
  const std::string url_;
};

}  // namespace

TEST_CASE("commands: worker and device and create make a player play and set changes its song",
          "[example][integration][commands]") {
  const Workplace here;
  const auto device = here.start_device({"kitchen"});
  const auto worker = here.start({"worker", "--style", "push"});

  REQUIRE(here.run({"create", "3"}).status.success());
  REQUIRE(here.run({"create", "kitchen", "--song", "Caf\u00e9 \"au\" lait"}).status.success());
  here.wait_until_converged("kitchen", "Caf\u00e9 \"au\" lait");

  REQUIRE(here.run({"set", "p2", "Naima"}).status.success());
  here.wait_until_converged("p2", "Naima");

  // What it was told is lost, and what was declared is not.
  REQUIRE(here.run({"misbehave", "p2", "--reboot"}).status.success());
  here.wait_until_converged("p2", "Naima");

  const Finished one = here.run({"debug", "p2"});
  CHECK(one.status.success());
  CHECK(one.output.find("Naima") != std::string::npos);
  CHECK(one.output.find("work.player") != std::string::npos);

  const auto status = worker->stop(SIGTERM);
  INFO(worker->error_output());
  CHECK(status.success());
  CHECK(worker->output().find("succeeded") != std::string::npos);
  CHECK(device->stop(SIGTERM).success());
}

TEST_CASE("commands: debug shows why a player is behind and the player heals when it is mended",
          "[example][integration][commands]") {
  const Workplace here;
  const auto device = here.start_device();
  const auto worker = here.start({"worker", "--style", "push"});
  dmm::testing::wait_for("the players to answer", [&] {
    return here.run({"misbehave", "p1", "--error500", "1"}).status.success();
  });
  REQUIRE(here.run({"create", "1", "--song", "So What"}).status.success());
  dmm::testing::wait_for(
      "the failure to be shown",
      [&] {
        const auto one = here.player("p1");
        return one.is_object() && one.at("phase") == "failing" && one.at("attempts") >= 2 &&
               one.at("error").get<std::string>().find("answered 500") != std::string::npos;
      },
      30s);
  REQUIRE(here.run({"misbehave", "p1"}).status.success());
  here.wait_until_converged("p1", "So What");
}

TEST_CASE("commands: what cannot be is refused with a message and an exit code",
          "[example][integration][commands]") {
  const Workplace here;
  const std::vector<std::vector<std::string>> refused = {
      {"create", "a.b"},
      {"create", "0"},
      {"create", "99999999999999999999"},
      {"create", ""},
      {"create", "3", "--song", std::string(300, 'x')},
      {"set", "p1", ""},
      {"set", "p1", "\xff"},
      {"set", "p1", "a\nb"},
      {"set", "../x", "Naima"},
  };
  for (const auto& arguments : refused) {
    const Finished finished = here.run(arguments);
    INFO(arguments.at(0) << " " << arguments.at(1) << ": " << finished.error_output);
    CHECK(finished.status == dmm::testing::ExitStatus{1, 0});
    CHECK(finished.error_output.find("example: ") == 0);
  }
  CHECK(here.run({"device", "--hang", "0.7", "--refuse", "0.7"}).status.code == 1);
  CHECK(here.run({"worker", "--style", "shove"}).status.code == 2);
  CHECK(here.run({}).status.code == 2);
  CHECK(here.run({"--help"}).status.code == 0);
  CHECK(here.run({"worker", "--server", "nats://127.0.0.1:1"}).status.code == 3);
  CHECK(here.run({"--server", "nats://127.0.0.1:1", "worker"}).status.code == 3);
  CHECK(here.run({"worker", "--check-every", "99"}).status.code == 2);
  CHECK(here.run({"worker", "--help"}).output.find("--style STYLE") != std::string::npos);
}
