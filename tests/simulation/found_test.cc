// Goal: what the simulator found stays mended. Method: each by itself, in a world where time is
// virtual, so that what has to happen within a moment does.

#include <catch2/catch.hpp>

#include <atomic>
#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/testing/world.h"
#include "dmm/wire.h"
#include "dmm/worker/pace.h"
#include "tests/simulation/simulation.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::Call;
using testing::Part;
using testing::Worker;
using testing::World;

const Identity kKitchen{"player", "kitchen"};

// Keeps what it is told.
const AnyMaterializer kKeeper{[](Context&, json&) { return Outcome::done(); }};

struct VirtualWorld : World {
  VirtualWorld() : World({.seed = 7, .virtual_time = true}) {
    bucket().register_type("player", kKeeper, testing::quick());
  }
  void want(const std::string& song) { outside().notify(kKitchen, {{"song", song}}); }
  json kitchen() { return outside().matter(kKitchen); }
};

}  // namespace

TEST_CASE("found: a worker that hears nothing of its beat does not spin", "[simulation][fault]") {
  Plan plan{.seed = 1, .workers = 2, .jobs = 1, .storm = 6s, .steps = {}};
  const std::uint64_t quiet = simulate(plan, {}).switches;
  plan.steps = {{.at = 1s, .deed = Deed::partition, .who = 0, .time = 2900ms},
                {.at = 1s, .deed = Deed::partition, .who = 1, .time = 2900ms}};
  const Verdict verdict = simulate(plan, {});
  CHECK(verdict.violations.empty());
  CHECK(verdict.switches < 2 * quiet);
}

TEST_CASE("found: an observer that lost its lease tells nothing that is old",
          "[simulation][fault]") {
  VirtualWorld world;
  std::atomic<bool> cut_off = false;
  const auto observe = [&](Bucket& bucket, Worker& worker) {
    bucket.observe("player", [&](ObserveContext& context, const json& report) {
      if (report["song"] == "old" && !cut_off.exchange(true)) worker.faults().partition();
      context.notify(kKitchen, report);
    });
  };
  observe(world.bucket(), world.worker());
  world.work();
  Worker& second = world.another_worker();
  second.bucket().register_type("player", kKeeper, testing::quick());
  observe(second.bucket(), second);
  world.outside().report("player", "kitchen", {{"song", "old"}});
  world.pass(1s);
  REQUIRE(cut_off);
  second.work();
  world.outside().report("player", "kitchen", {{"song", "new"}});
  world.pass(6s);
  CHECK(world.kitchen()["song"] == "new");
  world.faults().heal();
  CHECK(world.settle(60s).empty());
  CHECK(world.kitchen()["song"] == "new");
}

TEST_CASE("found: a row that goes before its notify was answered is taken back",
          "[simulation][fault]") {
  VirtualWorld world;
  const auto memory = world.server().connect(1);
  const auto desired = memory->open(
      {.name = "KV_desired", .subjects = {"$KV.desired.>"}, .key_value = true, .description = {}},
      true);
  View view;
  view.name = "players";
  view.type = "player";
  view.inputs = {ViewInput::bucket("desired")};
  view.pipeline = json::parse(R"([{"@project": {"id": "$.key", "song": "$.song"}}])");
  world.bucket().view(std::move(view));
  world.work();
  CHECK(world.settle().empty());
  world.faults().in_doubt({.stream = Part::work, .call = Call::publish, .next = 1});
  transport::publish(*desired, {.subject = "$KV.desired.kitchen", .payload = R"({"song":"A"})"},
                     1s);
  world.pass(100ms);
  CHECK(world.kitchen()["song"] == "A");
  transport::publish(
      *desired,
      {.subject = "$KV.desired.kitchen", .headers = {{std::string(wire::kKvOperation), "DEL"}}},
      1s);
  CHECK(world.settle().empty());
  CHECK(world.kitchen().is_null());
}

TEST_CASE("found: a lane is given away also if a delete was to be repeated when history was lost",
          "[simulation][fault]") {
  VirtualWorld world;
  world.work();
  world.want("A");
  CHECK(world.settle().empty());
  world.faults().refuse({.stream = Part::work, .call = Call::erase, .next = 1});
  world.want("B");
  world.pass(100ms);
  world.server().restart({.stream = Part::work, .messages = 1});
  Worker& second = world.another_worker();
  second.bucket().register_type("player", kKeeper, testing::quick());
  second.work();
  world.pass(10s);
  CHECK(world.bucket().work_streams().at(0)->stats().lanes == limits::lanes / 2);
  CHECK(second.bucket().work_streams().at(0)->stats().lanes == limits::lanes / 2);
  world.want("C");
  CHECK(world.settle().empty());
}

TEST_CASE("found: a status whose write was not answered is cleared all the same",
          "[simulation][fault]") {
  World world({.seed = 7, .virtual_time = true});
  std::atomic<int> failures = 1;
  world.bucket().register_type("player", AnyMaterializer{[&](Context&, json&) {
                                 if (failures-- > 0) throw std::runtime_error("it fails");
                                 return Outcome::done();
                               }},
                               testing::quick());
  world.work();
  world.pass(1s);
  world.faults().in_doubt({.stream = Part::status, .call = Call::publish, .next = 1});
  world.outside().notify(kKitchen, {{"song", "A"}});
  CHECK(world.settle().empty());
  world.pass(3s);
  CHECK_FALSE(world.server().look(wire::Names("test").status_subject("player.kitchen")));
}

TEST_CASE("found: a pause stops also what was about to begin", "[simulation][fault]") {
  World world({.seed = 7, .virtual_time = true});
  std::atomic<int> begun = 0;
  WorkOptions options = testing::quick();
  options.concurrency = 1;
  world.bucket().register_type("player", AnyMaterializer{[&](Context& context, json&) {
                                 ++begun;
                                 std::mutex mutex;
                                 internal::StopCondition done;
                                 std::unique_lock lock(mutex);
                                 done.wait_for(lock, context.stop_token(), 1s,
                                               [] { return false; });
                                 return Outcome::done();
                               }},
                               options);
  world.work();
  world.pass(1s);
  Bucket& outside = world.outside();
  SECTION("and stood in line for a thread") {
    for (const std::string id : {"a", "b", "c"}) outside.notify({"player", id}, {{"song", id}});
    world.pass(100ms);
    REQUIRE(begun == 1);
    SECTION("of a paused type") {
      outside.control().pause({"player", {}}, "wait", "test");
      world.pass(5s);
      CHECK(begun == 1);
      CHECK(outside.control().resume({"player", {}}));
    }
    SECTION("of a paused identity") {
      outside.control().pause({"player", "c"}, "wait", "test");
      world.pass(5s);
      CHECK(begun == 2);
      CHECK(outside.control().resume({"player", "c"}));
    }
    CHECK(world.settle().empty());
    CHECK(begun == 3);
  }
  SECTION("and waited for its entry") {
    world.faults().hold({.stream = Part::cache, .call = Call::last});
    outside.poke(kKitchen);
    world.pass(100ms);
    outside.control().pause({"player", {}}, "wait", "test");
    world.pass(100ms);
    world.faults().let_go();
    world.pass(5s);
    CHECK(begun == 0);
    CHECK(outside.control().resume({"player", {}}));
    CHECK(world.settle().empty());
    CHECK(begun == 1);
  }
}

TEST_CASE("found: a resync that is switched off while it reads the keys does no harm",
          "[simulation][fault]") {
  VirtualWorld world;
  world.work();
  world.want("A");
  CHECK(world.settle().empty());
  world.faults().lag(Part::cache, 2s);
  for (int i = 0; i < 20; ++i) {
    world.outside().control().set_policy("player", {{"resync_s", 1}});
    world.pass(100ms);
    world.outside().control().set_policy("player", {});
    world.pass(150ms);
  }
  world.faults().clear();
  world.want("B");
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "B");
}

TEST_CASE("found: news that come while an identity stands in line have all their attempts",
          "[simulation][fault]") {
  World world({.seed = 7, .virtual_time = true});
  std::atomic<int> begun = 0;
  WorkOptions options = testing::quick();
  options.attempts_max = 3;
  options.backoff_first = 10ms;
  options.backoff_max = 10ms;
  world.bucket().register_type("player", AnyMaterializer{[&](Context&, json&) -> Outcome {
                                 ++begun;
                                 throw std::runtime_error("it fails");
                               }},
                               options);
  world.work();
  world.pass(1s);
  Bucket& outside = world.outside();
  outside.control().set_policy("player", {{"rate", 0.1}});
  world.pass(30s);
  // The first attempt has the run of the rate's ten seconds, the others stand in line.
  outside.notify(kKitchen, {{"song", "A"}});
  world.pass(15s);
  REQUIRE(begun == 2);
  outside.notify(kKitchen, {{"song", "B"}});
  const auto parked = world.settle(300s);
  REQUIRE(parked.size() == 1);
  CHECK(parked.front().phase == Phase::parked);
  CHECK(begun == 5);
}

TEST_CASE("found: a share of a rate that changes gives no run away", "[simulation][unit]") {
  worker::Pace pace;
  const auto now = worker::Pace::Clock::now();
  pace.set(4, {});
  for (int i = 0; i < 4; ++i) pace.begin("a", now);
  REQUIRE(pace.wait(now).count() > 0);
  for (const double rate : {3.9, 3.8, 1.0, 2.0, 4.0}) {
    pace.set(rate, {});
    CHECK(pace.wait(now).count() > 0);
  }
  pace.set(0, {});
  CHECK(pace.wait(now).count() == 0);
}

TEST_CASE("found: an entry that a restart lost is written again by a run that changes nothing",
          "[simulation][fault]") {
  VirtualWorld world;
  world.work();
  world.want("aria");
  CHECK(world.settle(60s).empty());
  SECTION("when the news come behind it") {
    world.server().restart({.stream = Part::cache, .messages = 1});
    world.want("aria");
  }
  SECTION("when the worker cannot know of it yet") {
    world.faults().partition();
    world.want("aria");
    world.server().restart({.stream = Part::cache, .messages = 1});
    world.pass(1s);
    world.faults().heal();
  }
  CHECK(world.settle(60s).empty());
  const auto matter = world.outside().inspect().get(kKitchen);
  REQUIRE(matter);
  REQUIRE(matter->stored);
  CHECK(json::parse(*matter->stored)["song"] == "aria");
}

}  // namespace dmm::simulation
