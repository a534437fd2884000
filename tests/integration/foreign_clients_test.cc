// Goal: clients that know nothing of dmm take part: bare NATS, MQTT, and a client of another
// language. Each is the real program; where one is not installed its test is skipped, or fails if
// DMM_REQUIRE_CLIENTS is set.

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// A namespace whose observer of "speaker" keeps what it hears.
struct House {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  std::mutex mutex;
  std::vector<std::pair<std::string, json>> heard;
  Journal journal;
  std::unique_ptr<Worker> worker;

  explicit House(testing::NatsServerOptions options = {}) : server(std::move(options)) {
    bucket.observe("speaker", ReportHandler([this](ObserveContext& context, const json& report) {
                     const std::lock_guard lock(mutex);
                     heard.emplace_back(context.device(), report);
                   }));
    bucket.register_type(kType, journal.noting(), quick());
    worker = std::make_unique<Worker>(bucket);
  }
  ~House() { worker.reset(); }

  void wait_heard(const std::string& device, const json& report) {
    wait_for("the report of " + device, [&] {
      const std::lock_guard lock(mutex);
      return std::ranges::find(heard, std::pair(device, report)) != heard.end();
    });
  }
};

// True if the program is there. Otherwise the test ends, in failure where clients are required.
bool available(const char* program, const char* package) {
  if (testing::find_program(program)) return true;
  const std::string text =
      std::string("skipped: there is no ") + program + "; install the Debian package " + package;
  if (std::getenv("DMM_REQUIRE_CLIENTS") != nullptr) FAIL(text);
  WARN(text);
  return false;
}

// Where the npm packages of foreign/package-lock.json are, installed there once for each build.
std::filesystem::path installed_scripts() {
  const std::filesystem::path directory = DMM_FOREIGN_DIRECTORY;
  std::filesystem::create_directories(directory);
  for (const char* file : {"package.json", "package-lock.json", "report.js", "notify.js"}) {
    std::filesystem::copy_file(std::filesystem::path(DMM_FOREIGN_SOURCES) / file, directory / file,
                               std::filesystem::copy_options::overwrite_existing);
  }
  const std::string lock = testing::read_file(directory / "package-lock.json");
  if (testing::read_file(directory / "installed") != lock) {
    testing::ChildOptions options;
    options.arguments = {"ci", "--no-audit", "--no-fund", "--ignore-scripts"};
    options.working_directory = directory;
    const testing::Finished finished = testing::run("npm", options, 120s);
    INFO(finished.output << finished.error_output);
    REQUIRE(finished.status.success());
    testing::write_file(directory / "installed", lock);
  }
  return directory;
}

std::string run_script(const char* script, std::vector<std::string> arguments) {
  testing::ChildOptions options;
  options.working_directory = installed_scripts();
  arguments.insert(arguments.begin(), script);
  options.arguments = std::move(arguments);
  const testing::Finished finished = testing::run("node", options, 30s);
  INFO(finished.error_output);
  REQUIRE(finished.status.success());
  return finished.output;
}

}  // namespace

TEST_CASE("foreign client: a message without headers is a report and is news",
          "[foreign][integration]") {
  House house;
  RawClient raw(house.server.port());
  raw.store("dmm.test.report.speaker.kitchen", R"( { "song" : 7 } )");
  house.wait_heard("kitchen", json{{"song", 7}});
  raw.store(fmt::format("dmm.test.work.thing.{}.kitchen", lane_of_key("thing.kitchen")),
            R"({"value":1})");
  wait_settled_on(house.bucket, thing("kitchen"), json{{"value", 1}});
  // An empty payload is a poke.
  raw.store(fmt::format("dmm.test.work.thing.{}.kitchen", lane_of_key("thing.kitchen")), "");
  wait_for("the second run", [&] { return house.journal.count("kitchen") == 2; });
  wait_settled_on(house.bucket, thing("kitchen"), json{{"value", 1}});
  CHECK(house.journal.runs("kitchen")[1].cache == json{{"value", 1}});
}

TEST_CASE("foreign client: a report by mosquitto_pub reaches the observer",
          "[foreign][integration]") {
  if (!available("mosquitto_pub", "mosquitto-clients")) return;
  testing::NatsServerOptions server_options;
  server_options.mqtt = true;
  House house(server_options);
  for (const char* quality : {"0", "1"}) {
    const std::string device = std::string("mqtt-") + quality;
    testing::ChildOptions options;
    options.arguments = {"-h", "127.0.0.1",
                         "-p", std::to_string(house.server.mqtt_port()),
                         "-V", "mqttv311",
                         "-q", quality,
                         "-t", "dmm/test/report/speaker/" + device,
                         "-m", R"({"song":12,"volume":0.5})"};
    const testing::Finished finished = testing::run("mosquitto_pub", options, 20s);
    INFO(finished.error_output << house.server.log());
    REQUIRE(finished.status.success());
    house.wait_heard(device, json{{"song", 12}, {"volume", 0.5}});
  }
}

TEST_CASE("foreign client: a report and news by a JavaScript client arrive",
          "[foreign][integration]") {
  if (!available("node", "nodejs") || !available("npm", "npm")) return;
  House house;
  const std::string stored = run_script(
      "report.js", {house.server.url(), "test", "speaker", "living room", R"({"song":3})"});
  CHECK(stored.find("DMM_test_REPORTS") != std::string::npos);
  house.wait_heard("living room", json{{"song", 3}});

  run_script("notify.js", {house.server.url(), "test", kType,
                           "K\xc3\xbc"
                           "che/1",
                           R"({"value":4})"});
  wait_settled_on(house.bucket,
                  thing("K\xc3\xbc"
                        "che/1"),
                  json{{"value", 4}});
}
