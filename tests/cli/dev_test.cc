// Goal: `dmm dev` gives a server that can be used and leaves nothing behind. Method: start it, use
// it, end it in each way there is.

#include <signal.h>

#include <catch2/catch.hpp>

#include <filesystem>

#include "dmm/testing/free_port.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

using namespace std::chrono_literals;

// `dmm dev` on a free port.
class Dev final {
 public:
  explicit Dev(Arguments more = {}) : site_("dev", false) {
    Arguments arguments{"dev", "--port", "0", "-o", "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    testing::ChildOptions options = site_.options(arguments);
    options.environment["TMPDIR"] = temporary_.path().string();  // what a killed one leaves behind
    process_ = std::make_unique<testing::ChildProcess>(tool(), std::move(options));
    testing::wait_for("dmm dev to be ready", [this] {
      REQUIRE(process_->running());
      return process_->output().find('\n') != std::string::npos;
    });
    facts_ = json::parse(process_->output());
  }

  testing::ChildProcess& process() { return *process_; }
  const json& facts() const { return facts_; }
  Result dmm(Arguments arguments) const {
    return site_.dmm(std::move(arguments), {},
                     {{"DMM_SERVER", facts_.at("url").get<std::string>()}});
  }
  bool server_runs() const { return ::kill(facts_.at("pid").get<pid_t>(), 0) == 0; }

 private:
  Site site_;
  testing::TemporaryDirectory temporary_{"dmm-cli-test"};
  std::unique_ptr<testing::ChildProcess> process_;
  json facts_;
};

TEST_CASE("dev: starts a server that can be used at once", "[cli][dev][integration]") {
  Dev dev;
  CHECK(dev.dmm({"put", "player", "a", "{}"}).code == 0);
  CHECK(dev.dmm({"doctor"}).code == 0);
}

TEST_CASE("dev: Ctrl-C leaves nothing behind", "[cli][dev][integration]") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Dev dev;
    const std::filesystem::path store = dev.facts().at("store").get<std::string>();
    REQUIRE(dev.server_runs());
    REQUIRE(dev.process().kill(signal));
    const auto status = dev.process().wait(30s);
    REQUIRE(status);
    CHECK(status->success());
    CHECK_FALSE(dev.server_runs());
    CHECK_FALSE(std::filesystem::exists(store));
  }
}

TEST_CASE("dev: the server does not outlive a killed tool", "[cli][dev][fault]") {
  Dev dev;
  REQUIRE(dev.process().kill(SIGKILL));
  REQUIRE(dev.process().wait(30s));
  testing::wait_for("the server to end", [&] { return !dev.server_runs(); });
}

TEST_CASE("dev: ends with an error when the server dies", "[cli][dev][fault]") {
  Dev dev;
  REQUIRE(::kill(dev.facts().at("pid").get<pid_t>(), SIGKILL) == 0);
  const auto status = dev.process().wait(30s);
  REQUIRE(status);
  CHECK(status->code == 3);
  CHECK(dev.process().error_output().find("dmm: DMM-0101: ") == 0);
}

TEST_CASE("dev: a store that is named is kept", "[cli][dev][integration]") {
  const testing::TemporaryDirectory directory("dmm-cli-test");
  const std::string store = (directory / "state").string();
  {
    Dev dev({"--store", store});
    REQUIRE(dev.dmm({"put", "player", "a", "{\"n\":1}"}).code == 0);
    dev.process().kill(SIGINT);
    REQUIRE(dev.process().wait(30s));
  }
  const Dev again({"--store", store, "--mqtt-port", "0"});
  CHECK(again.dmm({"get", "player", "a", "--value"}).out == "{\"n\":1}\n");
  CHECK(again.facts().at("mqtt_port") > 0);
}

TEST_CASE("dev: a taken port is told", "[cli][dev][integration]") {
  const Site site("dev", false);
  const Result taken = site.dmm({"dev", "--port", std::to_string(Site::server().port())});
  CHECK(taken.code == 3);
  CHECK(taken.err.find("dmm: DMM-0101: ") == 0);
}

}  // namespace
}  // namespace dmm::cli_test
