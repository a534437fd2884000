// Goal: a test of a user sees its namespace work in memory as on a server, and settle() tells the
// truth.

#include "dmm/testing/world.h"

#include <catch2/catch.hpp>

#include <atomic>

#include "dmm/device.h"
#include "dmm/testing/wait_for.h"
#include "tests/testing/transport_under_test.h"

namespace dmm::testing {

namespace {

using nlohmann::json;

// Plays what it was told, if its device can.
struct Player {
  std::string id;
  std::string song;
  int plays = 0;

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }
  Outcome materialize(Context& context) {
    if (song == "unknown") return Outcome::park("there is no such song");
    if (song == "broken" && context.attempt() < 3) throw std::runtime_error("cannot play");
    if (song == "later") return Outcome::requeue_after(std::chrono::hours(1));
    if (song == "soon" && ++plays < 3) return Outcome::requeue_after(10ms);
    if (song == "remote") {
      const CommandReply reply = context.command("player", id, {{"song", song}}, 1s);
      if (reply.offline()) return Outcome::wait_for_report("player", id);
    }
    ++plays;
    return Outcome::done();
  }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id, song, plays)
};

struct Report {
  std::string song;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Report, song)
};

const Identity kKitchen{"player", "kitchen"};

// A world in which players are worked.
struct Players : World {
  explicit Players(WorldOptions options = {}) : World(std::move(options)) {
    bucket().register_type<Player>("player", quick());
  }
  void want(const std::string& song) { outside().notify(kKitchen, {{"song", song}}); }
  json kitchen() { return outside().matter(kKitchen); }
};

std::string what_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("world: what is notified is worked before it settles", "[world][unit]") {
  Players world;
  world.work();
  CHECK(world.settle().empty());
  world.want("A");
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["plays"] == 1);
  world.want("broken");
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "broken");
  world.outside().remove(kKitchen);
  CHECK(world.settle().empty());
  CHECK(world.kitchen().is_null());
  world.stop();
}

TEST_CASE("world: what will not move by itself is returned", "[world][unit]") {
  Players world;
  world.work();
  world.want("unknown");
  auto left = world.settle();
  REQUIRE(left.size() == 1);
  CHECK(left[0].phase == Phase::parked);
  CHECK(left[0].error == "there is no such song");
  world.want("later");
  left = world.settle();
  REQUIRE(left.size() == 1);
  CHECK(left[0].identity == kKitchen);
  world.want("soon");  // runs again behind a time that is worth waiting for
  CHECK(world.settle().empty());
  world.want("remote");
  left = world.settle();
  REQUIRE(left.size() == 1);
  CHECK(left[0].phase == Phase::offline);
}

TEST_CASE("world: what keeps it from settling is named", "[world][unit]") {
  Players world({.seed = 77});
  world.want("A");
  std::string what = what_of([&] { world.settle(50ms); });
  CHECK(what.find("waited 50 ms for the world to settle: player.kitchen is waiting") !=
        std::string::npos);
  CHECK(what.find("seed 77") != std::string::npos);
  world.faults().refuse({.stream = Part::cache, .call = Call::publish});
  world.work();
  what = what_of([&] { world.settle(200ms); });
  CHECK(what.find("player.kitchen is") != std::string::npos);
  CHECK(what.find("refuse cache publish 100 %") != std::string::npos);
  world.faults().clear();
  CHECK(world.settle().empty());
  world.outside().control().pause({"player", {}}, "a test", "a test");
  wait_for("the pause", [&] { return world.bucket().work_streams().at(0)->stats().paused; });
  world.want("B");
  CHECK_THROWS_AS(world.settle(50ms), Error);
  world.outside().control().resume({"player", {}});
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "B");
}

TEST_CASE("world: reports are handled before it settles", "[world][unit]") {
  std::atomic<int> handled = 0;
  Players world;
  world.bucket().observe<Report>("player", [&](ObserveContext& context, const Report& report) {
    becomes_true([] { return false; }, 30ms);  // takes its time, and nobody sees it at work
    Player player = context.matter<Player>(context.device());
    player.song = report.song;
    context.notify(player);
    ++handled;
  });
  world.outside().report("player", "kitchen", {{"song", "early"}});
  CHECK_THROWS_AS((world.work(), world.settle(0ms)), Error);
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "early");
  for (int i = 0; i < 5; ++i) {
    world.outside().report("player", "kitchen", {{"song", std::to_string(i)}});
    world.outside().report("player", "rubbish" + std::to_string(i), json(7));
    CHECK(world.settle().empty());
    CHECK(world.kitchen()["song"] == std::to_string(i));
  }
  CHECK(handled == 6);
  CHECK(world.bucket().observers().at(0)->stats().waiting == 0);
  CHECK(world.outside().inspect().refused().size() == 5);
}

TEST_CASE("world: a view has told its rows before it settles", "[world][unit]") {
  Players world;
  View view;
  view.name = "players";
  view.inputs = {ViewInput::reports("player")};
  view.pipeline = json::parse(R"([{"@project": {"id": "$.device", "song": "$.wanted"}}])");
  world.bucket().view<Player>(view);
  world.outside().report("player", "kitchen", {{"wanted", "A"}});
  world.work();
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "A");
  for (int i = 0; i < 10; ++i) {
    world.outside().report("player", "kitchen", {{"wanted", std::to_string(i)}});
    CHECK(world.settle().empty());
    CHECK(world.kitchen()["song"] == std::to_string(i));
    CHECK(world.kitchen()["plays"] == i + 2);  // exactly what changed
  }
  CHECK(world.bucket().view_streams().at(0)->stats().settled);
  CHECK(world.outside().views().find("players").rows == 1);
}

TEST_CASE("world: a device in memory is commanded when it comes online", "[world][unit]") {
  std::atomic<int> commands = 0;
  std::atomic<int> told = 0;
  Players world;
  world.work();
  world.want("remote");
  REQUIRE(world.settle().size() == 1);
  DeviceHost host = DeviceHost::connect("test", "player", {.transport = world.server().connect(3)});
  host.serve_commands("kitchen", [&](const Command& command) {
    ++commands;
    return json{{"playing", command.payload["song"]}};
  });
  host.report("kitchen", {{"online", true}});
  CHECK(world.settle().empty());
  CHECK(commands == 1);
  host.follow_shadow("kitchen", [&](const std::optional<json>& document) {
    if (document && *document == json{{"volume", 3}}) ++told;
  });
  world.outside().set_shadow("player", "kitchen", {{"volume", 3}});
  wait_for("the shadow", [&] { return told == 1; });
  CHECK(host.shadow("kitchen") == json{{"volume", 3}});
}

TEST_CASE("world: what a worker threw is thrown", "[world][unit]") {
  Players world;
  world.work();
  world.want("A");
  world.settle();
  world.worker().memory().close();
  world.want("B");
  CHECK(code_of([&] { world.settle(20s); }) == "DMM-0108");
  CHECK(code_of([&] { world.stop(); }) == "DMM-0108");
}

TEST_CASE("world: another worker takes over from one that crashed", "[world][fault]") {
  Players world;
  world.work();
  world.want("A");
  world.settle();
  Worker& second = world.another_worker();
  second.bucket().register_type<Player>("player", quick());
  second.work();
  world.worker().crash();
  world.want("B");
  CHECK(world.settle(20s).empty());
  CHECK(world.kitchen()["song"] == "B");
  CHECK(second.bucket().work_streams().at(0)->stats().runs == 1);
}

TEST_CASE("world: work goes on behind a lost history", "[world][fault]") {
  Players world;
  world.work();
  world.want("A");
  world.settle();
  world.server().recreate(Part::work);
  world.want("B");
  CHECK(world.kitchen()["song"] == "B");  // for everybody, and before anybody ran it
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["plays"] == 1);
  world.server().restart({.stream = Part::cache, .messages = 1});
  CHECK(world.kitchen()["song"] == "A");  // what was there before
  world.want("C");
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "C");
}

TEST_CASE("world: news are run though their sequence was used before the server lost its newest",
          "[world][fault]") {
  Players world;
  world.work();
  world.want("A");
  world.settle();
  world.server().restart({.stream = Part::work, .messages = 1});
  world.want("B");
  CHECK(world.kitchen()["song"] == "B");
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "B");
}

TEST_CASE("world: a worker that ended begins again", "[world][unit]") {
  Players world;
  world.work();
  world.want("A");
  world.settle();
  world.stop();
  world.want("B");
  CHECK_THROWS_AS(world.settle(20ms), Error);
  world.work();
  CHECK_THROWS_AS(world.work(), Error);
  CHECK(world.settle().empty());
  CHECK(world.kitchen()["song"] == "B");
}

TEST_CASE("world: a take-over takes no time where time is virtual", "[world][unit]") {
  const auto real = std::chrono::steady_clock::now();
  Players world({.virtual_time = true});
  world.work();
  world.want("A");
  CHECK(world.settle().empty());
  Worker& second = world.another_worker();
  second.bucket().register_type<Player>("player", WorkOptions());
  second.work();
  world.worker().crash();
  const auto begun = world.now();
  world.want("B");
  CHECK(world.settle(20s).empty());
  CHECK(world.now() - begun > 2s);
  CHECK(world.kitchen()["song"] == "B");
  world.want("later");
  CHECK(world.settle().size() == 1);
  world.pass(std::chrono::hours(2));
  CHECK(second.bucket().work_streams().at(0)->stats().runs >= 3);  // each hour
  CHECK(std::chrono::steady_clock::now() - real < 10min);
}

TEST_CASE("world: where time is virtual the same seed is the same run", "[world][unit]") {
  const auto run = [](std::uint64_t seed) {
    std::string lines;
    const Logger logger(Level::debug, [&](Level, std::string_view message, const json& fields) {
      lines += std::string(message) + fields.dump() + "\n";
    });
    Players world({.seed = seed, .logger = logger, .virtual_time = true});
    world.faults().in_doubt({.share = 0.2});
    world.faults().refuse({.share = 0.1});
    world.work();
    for (const char* song : {"A", "broken", "soon", "B"}) world.want(song);
    CHECK(world.settle(60s).empty());
    world.stop();
    return lines + world.kitchen().dump() + std::to_string(world.now().time_since_epoch().count());
  };
  const std::string first = run(5);
  CHECK(first == run(5));
  CHECK(first != run(6));
}

TEST_CASE("world: what is notified in a storm is what all have in the end", "[world][unit]") {
  std::uint64_t struck = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    INFO("seed " << seed);
    Players world({.seed = seed, .virtual_time = true});
    Worker& other = world.another_worker();
    other.bucket().register_type<Player>("player", quick());
    world.work();
    other.work();
    for (const char* song : {"A", "broken", "B"}) {
      world.want(song);
      world.storm(std::chrono::minutes(1));
    }
    CHECK(world.settle(std::chrono::minutes(10)).empty());
    CHECK(world.kitchen()["song"] == "B");
    CHECK(world.faults().to_string().starts_with("seed"));
    struck += world.faults().struck() + other.faults().struck();
  }
  CHECK(struck > 100);
}

}  // namespace dmm::testing
