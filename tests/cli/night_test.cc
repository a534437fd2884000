// Goal: who is woken at night finds the cause with the verbs that docs/how-to/when-you-are-woken.md
// names. Method: each call of that page is acted out.

#include <catch2/catch.hpp>

#include <atomic>
#include <filesystem>
#include <thread>

#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

using namespace std::chrono_literals;
using testing::wait_for;

/// Workers of type player in this process, of a release that may be a bad one.
class Worker final {
 public:
  explicit Worker(Bucket bucket, bool bad = false) : bucket_(std::move(bucket)) {
    AnyMaterializer player;
    player.materialize = [bad](Context& context, json& cache) {
      if (bad) return Outcome::park("no such song");
      if (cache.value("offline", false)) {
        return Outcome::wait_for_report("player", context.identity().id);
      }
      if (cache.value("fail", false)) throw std::runtime_error("the player refused");
      return Outcome::done();
    };
    bucket_.register_type("player", std::move(player), {.backoff_first = 10min, .backoff_max = 1h});
    thread_ = std::jthread([this](const std::stop_token& stop) { bucket_.work(stop); });
  }

 private:
  Bucket bucket_;
  std::jthread thread_;
};

std::string phase(const Site& site, const std::string& id) {
  const Result result = site.dmm({"get", "player", id, "-o", "json"});
  return result.code == 0 ? result.document().at("phase").get<std::string>() : "none";
}

void wait_phase(const Site& site, const std::string& id, const std::string& wanted) {
  wait_for(id + " to be " + wanted, [&] { return phase(site, id) == wanted; });
}

/// A server with a disk of its own, which it may lose.
class Disk final {
 public:
  explicit Disk(std::string ns) : site_(std::move(ns), false), server_(options()) {}

  Result dmm(Arguments arguments) const {
    arguments.insert(arguments.end(), {"--server", server_.url()});
    return site_.dmm(std::move(arguments));
  }
  Bucket bucket() const {
    BucketOptions as;
    as.connection.servers = {server_.url()};
    return Bucket::open(site_.ns(), as);
  }
  void lose() const {
    server_.kill();
    std::filesystem::remove_all(directory_ / "store");
    server_.start();
  }

 private:
  testing::NatsServerOptions options() const {
    testing::NatsServerOptions options;
    options.store_directory = directory_ / "store";
    return options;
  }
  const Site site_;
  const testing::TemporaryDirectory directory_{"dmm-night"};
  mutable testing::NatsServer server_;
};

std::size_t listed(const Site& site, Arguments arguments) {
  arguments.insert(arguments.end(), {"-o", "json"});
  const Result result = site.dmm(std::move(arguments));
  REQUIRE(result.code == 0);
  const json document = result.document();
  return document.is_array() ? document.size() : document.at("identities").size();
}

}  // namespace

TEST_CASE("night: a device that does not converge says why in its phase",
          "[cli][night][integration]") {
  const Site site("night_device");
  Bucket hand = site.bucket();
  hand.notify({"player", "kitchen"}, {{"fail", true}});
  CHECK(phase(site, "kitchen") == "waiting");
  CHECK(site.dmm({"leases", "-o", "json"}).document().empty());  // nobody works

  const Worker worker(site.bucket());
  wait_phase(site, "kitchen", "failing");
  const json events = site.dmm({"history", "player", "kitchen", "-o", "json"}).document();
  CHECK(events.back().at("what") == "next run");
  CHECK(events.dump().find("the player refused") != std::string::npos);

  REQUIRE(site.dmm({"put", "player", "kitchen", "{}", "--wait", "10"}).code == 0);
  CHECK(phase(site, "kitchen") == "settled");

  REQUIRE(site.dmm({"put", "player", "attic", "{\"offline\":true}"}).code == 0);
  wait_phase(site, "attic", "offline");
  CHECK(site.dmm({"reports", "player", "-o", "json"}).document().empty());

  REQUIRE(site.dmm({"pause", "player", "--reason", "test"}).code == 0);
  REQUIRE(site.dmm({"put", "player", "kitchen", "{\"song\":\"Aria\"}"}).code == 0);
  CHECK(phase(site, "kitchen") == "waiting");
  CHECK(site.dmm({"diff", "player", "kitchen"}).out.find("+ /song") != std::string::npos);
  CHECK(site.dmm({"pause"}).out.find("test") != std::string::npos);
  REQUIRE(site.dmm({"resume", "player"}).code == 0);
  wait_phase(site, "kitchen", "settled");
}

TEST_CASE("night: lag that grows is told with its age and its cause", "[cli][night][integration]") {
  const Site site("night_lag");
  Bucket hand = site.bucket();
  for (int i = 0; i < 20; ++i) hand.notify({"player", std::to_string(i)}, json::object());
  wait_for("them to have waited", [&] {
    return listed(site, {"ls", "--phase", "waiting,failing", "--older-than", "0.2", "--sort",
                         "age"}) == 20;
  });
  CHECK(site.dmm({"leases", "-o", "json"}).document().empty());
  const Worker worker(site.bucket());
  wait_for("all to be done", [&] { return listed(site, {"ls", "--phase", "waiting"}) == 0; });
  CHECK_FALSE(site.dmm({"leases", "-o", "json"}).document().empty());
  REQUIRE(site.dmm({"policy", "set", "player", "concurrency=64"}).code == 0);
  CHECK(site.dmm({"policy", "show", "player"}).out.find("64") != std::string::npos);
}

TEST_CASE("night: what a bad release parked is run again by a good one",
          "[cli][night][integration]") {
  const Site site("night_deploy");
  Bucket hand = site.bucket();
  for (int i = 0; i < 10; ++i) hand.notify({"player", std::to_string(i)}, json::object());
  {
    const Worker bad(site.bucket(), true);
    wait_for("all to be parked", [&] { return listed(site, {"parked", "ls", "player"}) == 10; });
    REQUIRE(site.dmm({"pause", "player", "--reason", "bad deploy"}).code == 0);
  }
  CHECK(site.dmm({"parked", "show", "player", "3"}).out.find("no such song") != std::string::npos);
  const Worker good(site.bucket());
  CHECK(site.dmm({"parked", "retry", "player", "--error", "no such song", "--dry-run"}).code == 0);
  CHECK(listed(site, {"parked", "ls", "player"}) == 10);
  REQUIRE(site.dmm({"resume", "player"}).code == 0);
  REQUIRE(site.dmm({"parked", "retry", "player", "3", "--yes"}).code == 0);
  wait_phase(site, "3", "settled");
  REQUIRE(site.dmm({"parked", "retry", "player", "--error", "no such song", "--yes"}).code == 0);
  wait_for("all to settle", [&] { return listed(site, {"ls", "--phase", "settled"}) == 10; });
}

TEST_CASE("night: a server that lost its disk while nobody worked is filled again",
          "[cli][night][fault][integration]") {
  const Disk disk("night_disk");
  REQUIRE(disk.dmm({"init"}).code == 0);
  REQUIRE(disk.dmm({"put", "player", "kitchen", "{\"song\":\"Aria\"}"}).code == 0);
  disk.lose();
  const Result refused = disk.dmm({"ls"});
  CHECK(refused.code == 4);
  CHECK(refused.err.find("DMM-0107") != std::string::npos);
  REQUIRE(disk.dmm({"init"}).code == 0);
  REQUIRE(disk.dmm({"doctor"}).code == 0);
  CHECK(disk.dmm({"ls", "-o", "json"}).document().empty());
  const Worker worker(disk.bucket());
  REQUIRE(disk.dmm({"put", "player", "kitchen", "{\"song\":\"Aria\"}", "--wait", "10"}).code == 0);
}

TEST_CASE("night: a server that lost its disk is filled by those who live",
          "[cli][night][fault][integration]") {
  const Disk disk("night_alive");
  REQUIRE(disk.dmm({"init"}).code == 0);
  const auto phase = [&](const std::string& type, const std::string& id) {
    const Result result = disk.dmm({"get", type, id, "-o", "json"});
    return result.code == 0 ? result.document().at("phase").get<std::string>() : "none";
  };
  const auto wait_settled = [&](const std::string& type, const std::string& id) {
    wait_for(
        type + " " + id + " to settle", [&] { return phase(type, id) == "settled"; }, 30s);
  };
  const auto view = [&] { return disk.dmm({"view", "show", "players", "-o", "json"}).document(); };

  // Of all that a worker can have: a view, an observer, and a type that only programs notify.
  Bucket bucket = disk.bucket();
  for (const char* type : {"player", "sensor", "poster"}) {
    bucket.register_type(type, AnyMaterializer{[](Context&, json&) { return Outcome::done(); }});
  }
  bucket.observe("sensor", ReportHandler([](ObserveContext& context, const json& report) {
                   context.notify({"sensor", context.device()}, report);
                 }));
  View players;
  players.name = "players";
  players.type = "player";
  players.inputs = {ViewInput::reports("player")};
  players.pipeline = json::parse(R"([{"@select": {"@eq": ["$.on", true]}},
                                     {"@project": {"id": "$.device", "song": "$.song"}}])");
  bucket.view(players);
  const std::jthread worker([&](const std::stop_token& stop) { bucket.work(stop); });
  Bucket outside = disk.bucket();
  const auto report = [&](const std::string& kind, const std::string& device, bool on = true) {
    try {
      outside.report(kind, device, {{"song", "Aria"}, {"on", on}});
      return true;
    } catch (const Error&) {
      return false;  // a device tries again
    }
  };
  const auto all_report = [&] {
    for (const char* device : {"kitchen", "attic"}) REQUIRE(report("player", device));
    REQUIRE(report("sensor", "roof"));
  };
  all_report();
  REQUIRE(disk.dmm({"put", "poster", "hall", "{}"}).code == 0);
  for (const char* device : {"kitchen", "attic"}) wait_settled("player", device);
  wait_settled("sensor", "roof");
  wait_settled("poster", "hall");

  disk.lose();

  // The workers make the streams anew, empty, and say it.
  wait_for(
      "the loss to be said",
      [&] { return disk.dmm({"doctor"}).out.find("lost what it had") != std::string::npos; }, 30s);
  wait_for(
      "all streams to be there", [&] { return report("sensor", "roof"); }, 30s);
  CHECK(phase("player", "kitchen") == "none");

  // Devices report again; views and observers tell what they say.
  all_report();
  for (const char* device : {"kitchen", "attic"}) wait_settled("player", device);
  wait_settled("sensor", "roof");

  // Removals are held until they are approved.
  wait_for(
      "the doubt to be shown", [&] { return view().at("doubt") == true; }, 30s);
  REQUIRE(report("player", "attic", false));
  wait_for(
      "the removal to be held", [&] { return view().at("held") == 1; }, 30s);
  CHECK(phase("player", "attic") == "settled");
  CHECK(disk.dmm({"view", "ls"}).out.find("held") != std::string::npos);
  REQUIRE(disk.dmm({"view", "approve", "players", "--yes"}).code == 0);
  wait_for(
      "the removal", [&] { return phase("player", "attic") == "none"; }, 30s);
  CHECK(phase("player", "kitchen") == "settled");

  // What only programs notify has to be notified by them again.
  CHECK(phase("poster", "hall") == "none");
  REQUIRE(disk.dmm({"put", "poster", "hall", "{}", "--wait", "10"}).code == 0);
  CHECK(disk.dmm({"view", "verify", "players"}).code == 0);
}

}  // namespace dmm::cli_test
