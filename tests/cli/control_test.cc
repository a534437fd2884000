// Goal: work is paused, resumed and set from the shell, and the worker does as it is told.

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "dmm/testing/wait_for.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

// A worker of type player in this process.
struct Worker {
  Bucket bucket;
  std::atomic<int> runs = 0;
  WorkStream& stream;
  std::jthread thread;

  explicit Worker(const Site& site)
      : bucket(site.bucket()),
        stream(bucket.register_type("player", AnyMaterializer{[this](Context&, json&) {
                                      ++runs;
                                      return Outcome::done();
                                    }})),
        thread([this](const std::stop_token& stop) { bucket.work(stop); }) {}
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("control: what is paused waits until it is resumed", "[cli][control][integration]") {
  const Site site("pauses");
  CHECK(site.dmm({"pause", "-o", "json"}).document().empty());
  CHECK(site.dmm({"pause", "player", "--reason", "new firmware"}).code == 0);
  CHECK(site.dmm({"pause", "player/living room"}).code == 0);
  Worker worker(site);
  site.dmm({"put", "player", "kitchen", "{}"});
  site.dmm({"put", "player", "living room", "{}"});
  testing::wait_for("the worker to know", [&] { return worker.stream.stats().paused; });

  const json listed = site.dmm({"pause", "-o", "json"}).document();
  REQUIRE(listed.size() == 2);
  CHECK(contains(site.dmm({"pause"}).out, "new firmware"));
  CHECK(contains(site.dmm({"get", "player", "kitchen"}).out, "new firmware"));
  const json got = site.dmm({"get", "player", "kitchen", "-o", "json"}).document();
  CHECK(got.at("paused").at("reason") == "new firmware");
  CHECK(got.at("paused").at("by") != "");
  CHECK(worker.runs == 0);

  CHECK(site.dmm({"resume", "player"}).code == 0);
  testing::wait_for("the one", [&] { return worker.runs == 1; });
  CHECK(site.dmm({"get", "player", "kitchen", "-o", "json"}).document().contains("paused") ==
        false);
  testing::wait_for("the other to be held", [&] { return worker.stream.stats().held == 1; });
  CHECK(site.dmm({"resume", "player/living room"}).code == 0);
  testing::wait_for("the other", [&] { return worker.runs == 2; });

  CHECK(site.dmm({"pause", "--all", "--yes"}).code == 0);
  testing::wait_for("the pause", [&] { return worker.stream.stats().paused; });
  const Result wrong = site.dmm({"resume", "player"});
  CHECK(wrong.code == 4);
  CHECK(contains(wrong.err, "everything"));
  CHECK(site.dmm({"resume", "--all"}).code == 0);
  testing::wait_for("its end", [&] { return !worker.stream.stats().paused; });

  CHECK(site.dmm({"resume"}).code == 2);
  CHECK(site.dmm({"pause", "player", "--all"}).code == 2);
  CHECK(site.dmm({"pause", "no type"}).code != 0);
  CHECK(site.dmm({"pause", "--all"}).code == 2);  // nobody can be asked
}

TEST_CASE("control: a policy is set and shown and taken back", "[cli][control][integration]") {
  const Site site("policies");
  CHECK(site.dmm({"policy", "show", "player"}).code == 4);
  CHECK(site.dmm({"policy", "set", "player", "rate=2.5", "timeout_s=30"}).code == 0);
  CHECK(site.dmm({"policy", "set", "player", "concurrency=4"}).code == 0);
  Worker worker(site);
  json shown;
  testing::wait_for("the worker to follow", [&] {
    shown = site.dmm({"policy", "show", "player", "-o", "json"}).document();
    return !shown.at("in_force").empty();
  });
  CHECK(shown.at("set") == json{{"rate", 2.5}, {"timeout_s", 30.0}, {"concurrency", 4.0}});
  CHECK(shown.at("in_force").at("rate") == 2.5);
  CHECK(shown.at("in_force").at("timeout_s") == 30.0);
  CHECK(shown.at("in_force").at("attempts_max") == 0.0);
  CHECK(contains(site.dmm({"policy", "show", "player"}).out, "runs begun a second"));
  CHECK(contains(site.dmm({"policy", "ls"}).out, "concurrency=4 rate=2.5 timeout_s=30"));

  CHECK(site.dmm({"policy", "unset", "player", "rate"}).code == 0);
  testing::wait_for("the worker to follow", [&] {
    shown = site.dmm({"policy", "show", "player", "-o", "json"}).document();
    return shown.at("in_force").at("rate") == 0.0;
  });
  CHECK(site.dmm({"policy", "unset", "player"}).code == 0);
  CHECK(site.dmm({"policy", "ls", "-o", "json"}).document().at(0).at("set").empty());

  for (const Arguments& wrong : std::vector<Arguments>{
           {"policy"},
           {"policy", "set", "player"},
           {"policy", "set", "player", "rate"},
           {"policy", "set", "player", "rate=fast"},
           {"policy", "set", "player", "rate=-1"},
           {"policy", "set", "player", "rate=1e999"},
           {"policy", "set", "player", "concurrency=0"},
           {"policy", "unset", "player", "speed"},
       }) {
    CHECK(site.dmm(wrong).code != 0);
  }
  const Result misspelt = site.dmm({"policy", "set", "player", "timeout=3"});
  CHECK(misspelt.code == 2);
  CHECK(contains(misspelt.err, "timeout_s"));
}

}  // namespace
}  // namespace dmm::cli_test
