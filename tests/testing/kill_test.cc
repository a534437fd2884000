// Goal: a test of a user can end its worker at any instant, let it stand still, and turn its clock.

#include <catch2/catch.hpp>

#include <functional>
#include <set>
#include <string>

#include "dmm/error.h"
#include "dmm/testing/wait_for.h"
#include "dmm/testing/world.h"

namespace dmm::testing {

namespace {

using namespace std::chrono_literals;

std::function<void(const std::string& id)> meanwhile;  // in each run

struct Lamp {
  std::string id;
  bool on = false;

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }
  void materialize(Context&) {
    if (meanwhile) meanwhile(id);
  }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Lamp, id, on)
};

struct Switch {
  bool on = false;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Switch, on)
};

void register_lamps(Bucket& bucket) {
  bucket.register_type<Lamp>("lamp");
  bucket.observe<Switch>("switch", [](ObserveContext& context, const Switch& report) {
    context.notify({"lamp", context.device()}, {{"on", report.on}});
  });
}

struct Lamps : World {
  Lamps() : World({.virtual_time = true}) {
    meanwhile = nullptr;
    register_lamps(bucket());
  }
  Worker& second() {
    Worker& worker = another_worker();
    register_lamps(worker.bucket());
    worker.work();
    return worker;
  }
  void want(const std::string& id, bool on) { outside().notify({"lamp", id}, {{"on", on}}); }
  bool is_on(const std::string& id) { return outside().matter({"lamp", id}).value("on", false); }
};

}  // namespace

TEST_CASE("world: a handler that ends its own worker is run again by another", "[world][fault]") {
  Lamps world;
  int runs = 0;
  meanwhile = [&](const std::string&) {
    if (++runs > 1) return;
    world.worker().kill();
    throw std::runtime_error("nobody hears this");
  };
  world.work();
  world.pass(1s);
  world.want("hall", true);
  wait_for("the run", [&] { return runs == 1; });
  CHECK(world.worker().dead());
  world.second();
  CHECK(world.settle(1min).empty());
  CHECK(runs == 2);
  CHECK(world.is_on("hall"));
}

TEST_CASE("world: the end of a worker at any crash point loses nothing", "[world][fault]") {
  std::set<std::string> reached;
  for (const std::string_view point : crash_points()) {
    Lamps world;
    world.worker().kill_at(point);
    world.work();
    world.pass(3s);
    world.second();
    world.pass(3s);
    for (int i = 0; i < 8; ++i) {
      world.outside().report("switch", std::to_string(i), {{"on", true}});
      world.want("lamp" + std::to_string(i), true);
    }
    INFO(point << ", DMM_SEED=" << world.seed());
    CHECK(world.settle(2min).empty());
    for (int i = 0; i < 8; ++i) {
      CHECK(world.is_on(std::to_string(i)));
      CHECK(world.is_on("lamp" + std::to_string(i)));
    }
    if (world.worker().dead()) reached.emplace(point);
  }
  for (const char* point : {"a run returned", "stored an entry", "deleted a token", "took a lane",
                            "begins with lanes", "took a lease"}) {
    CHECK(reached.contains(point));
  }
}

TEST_CASE("world: a worker that stood still undoes nothing of the next one", "[world][fault]") {
  Lamps world;
  int runs = 0;
  meanwhile = [&](const std::string&) {
    if (++runs == 1) world.worker().pause(20s);  // in the middle of its run
  };
  world.work();
  world.pass(1s);
  world.want("hall", false);
  wait_for("the run", [&] { return runs == 1; });
  Worker& second = world.second();
  world.pass(10s);
  world.want("hall", true);
  wait_for("the others", [&] { return runs > 1; });
  CHECK(world.settle(2min).empty());
  world.pass(20s);
  CHECK(world.is_on("hall"));
  CHECK(second.bucket().work_streams().at(0)->stats().runs > 0);
}

TEST_CASE("world: a clock that jumps keeps nothing from being done", "[world][fault]") {
  Lamps world;
  world.work();
  for (const auto jump : {1h, -3h, 24h * 400}) {
    world.worker().shift_clock(jump);
    world.want("hall", jump > 0h);
    CHECK(world.settle(1min).empty());
    CHECK(world.is_on("hall") == (jump > 0h));
  }
}

TEST_CASE("world: what needs virtual time and what is no crash point is refused", "[world][unit]") {
  const auto code_of = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return std::string(error.code().id);
    }
    return "none";
  };
  World real;
  CHECK(code_of([&] { real.worker().pause(1s); }) == "DMM-0404");
  CHECK(code_of([&] { real.worker().shift_clock(1s); }) == "DMM-0404");
  CHECK(code_of([&] { real.worker().kill_at("took a lane"); }) == "DMM-0404");
  World world({.virtual_time = true});
  CHECK(code_of([&] { world.worker().kill_at("took a break"); }) == "DMM-0404");
  CHECK(code_of([&] { world.worker().kill_at("took a lane", 0); }) == "DMM-0404");
}

}  // namespace dmm::testing
