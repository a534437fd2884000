// Goal: a view notifies exactly the identities whose row changed, removes nothing on the strength
// of what it merely does not see, and says what it leaves out.

#include <catch2/catch.hpp>

#include <random>

#include "view_scene.h"

using namespace dmm;
using namespace dmm::integration;

TEST_CASE("view: a change of a zone notifies exactly the players of that zone",
          "[view][integration]") {
  Scene scene;
  scene.zone("kitchen", "jazz");
  scene.zone("garden", "rock");
  for (int i = 0; i < 10; ++i) {
    scene.report("k" + std::to_string(i), {{"zone", "kitchen"}, {"volume", i}});
    scene.report("g" + std::to_string(i), {{"zone", "garden"}, {"volume", i}});
  }
  Keeper keeper(scene.server, zones_view());
  CHECK(keeper.view.stats().rows == 20);
  CHECK(keeper.view.stats().notified == 20);
  CHECK(effective(scene.bucket, "k3") == json{{"id", "k3"}, {"list", "jazz"}, {"volume", 3}});

  const Sequence before = last_token(scene.bucket);
  scene.zone("kitchen", "blues");
  keeper.wait_taken(23);
  std::set<std::string> expected;
  for (int i = 0; i < 10; ++i) expected.insert("k" + std::to_string(i));
  CHECK(ids_with_token_after(scene.bucket, before) == expected);
  CHECK(effective(scene.bucket, "k3")["list"] == "blues");
  CHECK(effective(scene.bucket, "g3")["list"] == "rock");

  // A report that changes nothing of the row notifies nobody.
  const std::uint64_t notified = keeper.view.stats().notified;
  scene.report("k3", {{"zone", "kitchen"}, {"volume", 3}, {"uptime", 99}});
  keeper.wait_taken(24);
  CHECK(keeper.view.stats().notified == notified);
  CHECK(keeper.view.stats().unchanged == 1);
}

TEST_CASE("view: materialize keeps its own fields and a vanished row is torn down",
          "[view][integration]") {
  Scene scene;
  scene.zone("kitchen", "jazz");
  scene.report("a", {{"zone", "kitchen"}, {"volume", 1}});
  Journal journal;
  Bucket bucket = open_bucket(scene.server);
  ViewStream& view = bucket.view(zones_view());
  std::atomic<int> torn_down = 0;
  std::string last_seen;
  bucket.register_type(kType, journal.noting([&](Context& context, json& cache) {
    if (context.deleted()) {
      last_seen = cache.dump();
      ++torn_down;
      return Outcome::done();
    }
    cache["runs"] = cache.value("runs", 0) + 1;
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), {{"id", "a"}, {"list", "jazz"}, {"volume", 1}, {"runs", 1}});
  scene.zone("kitchen", "blues");
  wait_settled_on(bucket, thing("a"), {{"id", "a"}, {"list", "blues"}, {"volume", 1}, {"runs", 2}});
  scene.drop_zone("kitchen");
  wait_for("the teardown", [&] { return torn_down == 1; });
  wait_for("the entry to go", [&] { return matters(bucket).empty(); });
  CHECK(last_seen == R"({"id":"a","list":"blues","runs":2,"volume":1})");
  CHECK(view.stats().removed == 1);
}

namespace {

// A source whose rows come when the test says so.
class HandSource final : public Source {
 public:
  std::string description() const override { return "by hand"; }
  std::unique_ptr<SourceReading> read(const json&, SourceSink& sink) override {
    sink_ = &sink;
    return std::make_unique<Reading>();
  }
  SourceSink& sink() {
    wait_for("the source to be read", [this] { return sink_ != nullptr; });
    return *sink_;
  }
  void row(const std::string& key, const json& document) {
    sink().on_row({key, document.dump(), "1", std::chrono::system_clock::now()});
  }

 private:
  struct Reading final : SourceReading {
    void grant(std::size_t) override {}
    json baseline() const override { return {}; }
  };
  std::atomic<SourceSink*> sink_ = nullptr;
};

View hand_view(const std::shared_ptr<HandSource>& source) {
  View view;
  view.name = kView;
  view.type = kType;
  view.inputs = {ViewInput::table("hand", source)};
  view.pipeline = json::parse(R"([{"@project": {"id": "$.id", "n": "$.n"}}])");
  return view;
}

}  // namespace

TEST_CASE("view: a row that may only not have come yet is not removed", "[view][integration]") {
  Scene scene;
  for (const bool complete : {true, false}) {
    const auto source = std::make_shared<HandSource>();
    Bucket bucket = open_bucket(scene.server);
    ViewStream& view = bucket.view(hand_view(source));
    Worker worker(bucket);
    source->row("a", {{"id", "a"}, {"n", complete ? 1 : 2}});
    if (complete) source->row("b", {{"id", "b"}, {"n", 1}});
    source->sink().on_loaded();
    if (complete) {
      source->sink().on_complete();
      wait_for("both to be told", [&] { return view.stats().notified == 2; });
      continue;
    }
    // The next owner finds b missing, in a storm that does not let it read to the end.
    wait_for("a to be told", [&] { return view.stats().notified == 1; });
    source->row("a", {{"id", "a"}, {"n", 3}});
    wait_for("a to be told again", [&] { return view.stats().notified == 2; });
    CHECK(view.stats().removed == 0);
    CHECK(effective(scene.bucket, "b")["n"] == 1);
    SECTION("it came late") {
      source->row("b", {{"id", "b"}, {"n", 1}});
      source->row("a", {{"id", "a"}, {"n", 4}});
      source->sink().on_complete();
      wait_for("a to be told once more", [&] { return view.stats().notified == 3; });
      CHECK(view.stats().removed == 0);
    }
    SECTION("it is not there") {
      source->sink().on_complete();
      wait_for("b to be told as removed", [&] { return view.stats().removed == 1; });
      CHECK(view.stats().held == 0);
    }
  }
}

TEST_CASE("view: after a restart it notifies exactly the difference", "[view][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  for (int i = 0; i < 30; ++i)
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", i}});
  { Keeper keeper(scene.server, zones_view()); }
  const Sequence before = last_token(scene.bucket);
  scene.report("p3", {{"zone", "z"}, {"volume", 33}});
  scene.report("p4", {{"zone", "z"}, {"volume", 4}, {"uptime", 1}});
  scene.report("p5", {{"zone", "nowhere"}, {"volume", 5}});
  scene.report("new", {{"zone", "z"}, {"volume", 0}});
  // An entry of nobody and one of another view are left alone.
  scene.bucket.notify(thing("hand-made"), json{{"value", 1}});
  const Sequence made = last_token(scene.bucket);
  Keeper keeper(scene.server, zones_view());
  std::set<std::string> told = ids_with_token_after(scene.bucket, before);
  told.erase("hand-made");
  CHECK(told == std::set<std::string>{"p3", "p5", "new"});
  CHECK(keeper.view.stats().notified == 3);
  CHECK(keeper.view.stats().removed == 1);
  CHECK(look(scene.bucket, thing("p5")).deleted);
  CHECK(look(scene.bucket, thing("hand-made")).token == made);
}

TEST_CASE("view: what it notifies is what an oracle says through random changes and restarts",
          "[view][integration]") {
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto pick = [&](int below) { return std::uniform_int_distribution(0, below - 1)(random); };
  constexpr int kDevices = 400;
  constexpr int kZones = 20;
  constexpr int kBatches = 700;  // more than 10^5 changes
  constexpr int kBatch = 200;
  Scene scene;
  std::map<std::string, json> players;
  std::map<std::string, std::string> zones;
  const auto rows = [&] {
    std::map<std::string, json> all;
    for (const auto& [device, state] : players) {
      const auto zone = zones.find(state["zone"]);
      if (zone == zones.end()) continue;
      all[device] = {{"id", device}, {"list", zone->second}, {"volume", state["volume"]}};
    }
    return all;
  };
  std::map<std::string, json> before;
  View view = zones_view();
  view.removals_free = 1'000'000;
  auto keeper = std::make_unique<Keeper>(scene.server, view);
  std::uint64_t taken = 0;
  std::size_t wrong = 0;
  for (int batch = 0; batch < kBatches && wrong == 0; ++batch) {
    const Sequence last = last_token(scene.bucket);
    bool restart = pick(50) == 0;
    if (restart) keeper.reset();
    // Each row changes once, so that none goes there and back within the batch.
    std::uint64_t changes = 1;
    if (pick(4) == 0) {
      const std::string zone = "z" + std::to_string(pick(kZones));
      if (zones.contains(zone) && pick(4) == 0) {
        zones.erase(zone);
        scene.drop_zone(zone);
      } else {
        zones[zone] = "list " + std::to_string(pick(5));
        scene.zone(zone, zones[zone]);
      }
    } else {
      std::set<int> chosen;
      while (chosen.size() < kBatch) chosen.insert(pick(kDevices));
      std::vector<std::pair<std::string, json>> reports;
      for (const int device : chosen) {
        const std::string name = "d" + std::to_string(device);
        json state{{"zone", "z" + std::to_string(pick(kZones))}, {"volume", pick(4)}};
        players[name] = state;
        reports.emplace_back(name, std::move(state));
      }
      CHECK(scene.bucket.report_all("player", reports).empty());
      changes = reports.size();
    }
    if (!restart) {
      taken += changes;
      wait_for("the changes", [&] {
        const ViewStats stats = keeper->view.stats();
        // Where the machine stood still for so long that the lease was lost, the view has begun
        // anew, and so has the count.
        restart = stats.rebuilds > 1;
        return restart || (stats.changes >= taken && stats.sending == 0);
      });
    }
    if (restart) {
      keeper.reset();
      keeper = std::make_unique<Keeper>(scene.server, view);
      taken = keeper->view.stats().changes;
    }
    const std::map<std::string, json> after = rows();
    std::set<std::string> expected;
    for (const auto& [id, row] : after) {
      const auto old = before.find(id);
      if (old == before.end() || old->second != row) expected.insert(id);
    }
    for (const auto& [id, row] : before) {
      if (!after.contains(id)) expected.insert(id);
    }
    if (ids_with_token_after(scene.bucket, last) != expected) {
      ++wrong;
      CAPTURE(batch, restart);
      CHECK(ids_with_token_after(scene.bucket, last) == expected);
    }
    before = after;
  }
  CHECK(wrong == 0);
  CHECK(keeper->view.stats().held == 0);
  for (const auto& [id, row] : before) {
    if (effective(scene.bucket, id) != row) CHECK(effective(scene.bucket, id) == row);
  }
}

TEST_CASE("view: too many removals are held until they are approved", "[view][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  for (int i = 0; i < 150; ++i)
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", 1}});
  Keeper keeper(scene.server, zones_view());
  scene.drop_zone("z");
  wait_for("the removals to be held", [&] { return keeper.view.stats().held == 150; });
  keeper.wait_told();
  CHECK(keeper.view.stats().removed == 0);
  for (const auto& [id, matter] : matters(scene.bucket)) CHECK_FALSE(matter.deleted);

  SECTION("an approval lets them go") {
    scene.bucket.views().approve(kView, 150);
    wait_for("the removals", [&] { return keeper.view.stats().removed == 150; });
    for (const auto& [id, matter] : matters(scene.bucket)) CHECK(matter.deleted);
  }
  SECTION("rows that come back are no removals any more") {
    scene.zone("z", "jazz");
    wait_for("the rows to be back", [&] { return keeper.view.stats().held == 0; });
    keeper.wait_told();
    CHECK(keeper.view.stats().removed == 0);
    CHECK(keeper.view.stats().notified == 150);
  }
  SECTION("an approval of fewer than are held is none") {
    CHECK(code_of([&] { scene.bucket.views().approve(kView, 10); }) == "DMM-0605");
    CHECK(keeper.view.stats().held == 150);
  }
  SECTION("the next owner holds them too") {
    keeper.worker.stop();
    Keeper next(scene.server, zones_view());
    CHECK(next.view.stats().held == 150);
    CHECK(next.view.stats().removed == 0);
  }
}

TEST_CASE("view: a report stream that was wiped or lost its half tears nothing down",
          "[view][fault][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  for (int i = 0; i < 20; ++i)
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", 1}});
  auto keeper = std::make_unique<Keeper>(scene.server, zones_view());
  // Its state says by now what the inputs held.
  wait_for("the state to be stored", [&] {
    const auto views = scene.bucket.views().list();
    return views.size() == 1 && views[0].loaded && views[0].rows == 20;
  });
  const std::string stream = names().reports(1).name;
  const bool running = GENERATE(true, false);
  if (!running) keeper.reset();
  SECTION("half of it purged") {
    const json answer =
        json::parse(scene.raw.request("$JS.API.STREAM.PURGE." + stream, R"({"keep":10})"));
    REQUIRE(answer.value("purged", 0) == 10);
  }
  SECTION("wiped") {
    scene.server.kill();
    std::filesystem::remove_all(scene.server.store_directory() / "jetstream/$G/streams" / stream);
    scene.server.start();
    if (keeper)
      wait_for(
          "the loss to be seen", [&] { return keeper->view.stats().rebuilds == 2; }, 30s);
    wait_for("the connection of the scene", [&] {
      try {
        matters(scene.bucket);
        return true;
      } catch (const Error&) {
        return false;
      }
    });
  }
  keeper.reset();
  Keeper next(scene.server, zones_view());
  CHECK(next.view.stats().removed == 0);
  CHECK(next.view.stats().held >= 10);
  for (const auto& [id, matter] : matters(scene.bucket)) CHECK_FALSE(matter.deleted);
  // Devices that report again have their rows again; nothing was removed meanwhile.
  for (int i = 0; i < 20; ++i)
    scene.report("p" + std::to_string(i), {{"zone", "z"}, {"volume", 1}});
  wait_for("the rows to be back", [&] { return next.view.stats().rows == 20; });
  next.wait_told();
  CHECK(next.view.stats().held == 0);
  CHECK(next.view.stats().removed == 0);
}

TEST_CASE("view: an identity belongs to one view", "[view][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  scene.report("a", {{"zone", "z"}, {"volume", 1}});
  Journal journal;
  Bucket bucket = open_bucket(scene.server);
  bucket.view(zones_view());
  View second = zones_view();
  second.name = "second";
  second.pipeline[1]["@project"]["list"] = "of the second";
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), {{"id", "a"}, {"list", "jazz"}, {"volume", 1}});
  Keeper keeper(scene.server, second);
  CHECK(keeper.view.stats().notified == 0);
  wait_refused(scene.bucket, "view.second.row.a", "DMM-0604");
  CHECK(stored(bucket, thing("a"))["list"] == "jazz");

  // A token of another view that comes all the same is parked by the worker.
  scene.raw.store(names().token_subject(thing("a")), R"({"list":"by force"})",
                  {{"Dmm-View", "second;0"}});
  wait_for("it to be parked", [&] { return phase(bucket, thing("a")) == Phase::parked; });
  CHECK(look(bucket, thing("a")).error_code == "DMM-0604");
  CHECK(stored(bucket, thing("a"))["list"] == "jazz");
}

TEST_CASE("view: documents and rows that cannot be used are named and the rest goes on",
          "[view][bad_input][integration]") {
  Scene scene;
  View view;
  view.name = kView;
  view.type = kType;
  view.inputs = {ViewInput::reports("player")};
  view.pipeline =
      json::parse(R"([{"@project": {"id": "$.name", "double": {"@mul": ["$.n", 2]}}}])");
  scene.report("good", {{"name", "good"}, {"n", 1}});
  scene.raw.store("dmm.test.report.player.text", "not json");
  scene.raw.store("dmm.test.report.player.list", "[1]");
  scene.report("sum", {{"name", "sum"}, {"n", "word"}});
  scene.report("first", {{"name", "same"}, {"n", 1}});
  scene.report("second", {{"name", "same"}, {"n", 2}});
  scene.report("keyless", {{"name", nullptr}, {"n", 2}});
  Keeper keeper(scene.server, view);
  wait_for("the row", [&] {
    return effective(scene.bucket, "good") == json{{"id", "good"}, {"double", 2}};
  });
  wait_refused(scene.bucket, "player.text", "DMM-0503");
  wait_refused(scene.bucket, "player.list", "DMM-0209");
  wait_refused(scene.bucket, "row.same", "DMM-0602");
  wait_refused(scene.bucket, "things.rows", "DMM-0603");
  wait_refused(scene.bucket, "things.b0", "DMM-0503");  // the node that met "word"
  CHECK(effective(scene.bucket, "same").is_null());
  const auto views = scene.bucket.views().list();
  REQUIRE(views.size() == 1);
  CHECK(keeper.view.stats().refused >= 4);

  // What is mended counts.
  scene.report("text", {{"name", "text"}, {"n", 3}});
  scene.report("second", {{"name", "other"}, {"n", 2}});
  wait_for("the mended rows", [&] {
    return !effective(scene.bucket, "text").is_null() &&
           !effective(scene.bucket, "same").is_null() &&
           !effective(scene.bucket, "other").is_null();
  });
  wait_refused(scene.bucket, "player.text", "none");
  scene.report("sum", {{"name", "sum"}, {"n", 7}});
  wait_refused(scene.bucket, "things.b0", "none");

  // What is mended while nobody keeps the view is no longer said by the next owner.
  keeper.worker.stop();
  scene.report("list", {{"name", "list"}, {"n", 7}});
  scene.report("keyless", {{"name", "key"}, {"n", 2}});
  Keeper next(scene.server, view);
  wait_refused(scene.bucket, "player.list", "none");
  wait_refused(scene.bucket, "things.rows", "none");
}

TEST_CASE("view: a report of a newer format is left out and what its device said before stays",
          "[view][bad_input][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  scene.report("a", {{"zone", "z"}, {"volume", 1}});
  const testing::TemporaryDirectory directory("dmm-view");
  Keeper keeper(scene.server, zones_view(), {.directory = directory.path()});
  scene.raw.store("dmm.test.report.player.a", R"({"zone":"nowhere"})", {{"Dmm-Version", "2"}});
  wait_refused(scene.bucket, "player.a", "DMM-0210");
  CHECK(effective(scene.bucket, "a")["volume"] == 1);
  keeper.worker.stop();
  // A newer program must not begin behind what this one could not read.
  CHECK(keeper.view.stats().snapshots == 0);
  CHECK(keeper.view.stats().removed == 0);
  Keeper next(scene.server, zones_view());
  scene.report("a", {{"zone", "z"}, {"volume", 2}});
  wait_for("the new row", [&] { return effective(scene.bucket, "a")["volume"] == 2; });
  wait_refused(scene.bucket, "player.a", "none");
}

TEST_CASE("view: a report below the last one of its device is ignored and counted",
          "[view][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  scene.report("a", {{"zone", "z"}, {"volume", 5}, {"seq", 10}, {"boot", "x"}});
  Keeper keeper(scene.server, zones_view());
  scene.report("a", {{"zone", "z"}, {"volume", 4}, {"seq", 9}, {"boot", "x"}});
  keeper.wait_taken(3);
  CHECK(keeper.view.stats().stale == 1);
  CHECK(effective(scene.bucket, "a")["volume"] == 5);
  scene.report("a", {{"zone", "z"}, {"volume", 6}, {"seq", 1}, {"boot", "y"}});
  keeper.wait_taken(4);
  CHECK(effective(scene.bucket, "a")["volume"] == 6);
}

TEST_CASE("view: a row of an input expires by its declared age", "[view][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  View view = zones_view();
  view.inputs[0].age = 3s;  // so that it is still there when it is first looked at
  scene.report("old", {{"zone", "z"}, {"volume", 1}});
  Keeper keeper(scene.server, view);
  CHECK(keeper.view.stats().rows == 1);
  wait_for(
      "it to expire", [&] { return keeper.view.stats().removed == 1; }, 20s);
  CHECK(look(scene.bucket, thing("old")).deleted);
  CHECK(keeper.view.stats().expired == 1);
}

TEST_CASE("view: the second keeper of a view waits and takes over", "[view][fault][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  scene.report("a", {{"zone", "z"}, {"volume", 1}});
  auto first = std::make_unique<Keeper>(scene.server, zones_view());
  Bucket standby = open_bucket(scene.server);
  ViewStream& view = standby.view(zones_view());
  Worker worker(standby);
  scene.report("a", {{"zone", "z"}, {"volume", 2}});
  first->wait_taken(3);
  CHECK_FALSE(view.stats().holds_lease);
  first.reset();
  wait_for("the standby", [&] { return view.stats().loaded; });
  CHECK(view.stats().notified == 0);
  scene.report("a", {{"zone", "z"}, {"volume", 3}});
  wait_for("its first notify", [&] { return effective(scene.bucket, "a")["volume"] == 3; });
}

TEST_CASE("view: a server that is killed and comes back costs no change",
          "[view][fault][integration]") {
  Scene scene;
  scene.zone("z", "jazz");
  scene.report("a", {{"zone", "z"}, {"volume", 1}});
  Keeper keeper(scene.server, zones_view());
  for (int round = 2; round < 5; ++round) {
    scene.server.kill();
    scene.server.start();
    wait_for(
        "the report to be stored",
        [&] {
          return code_of([&] { scene.report("a", {{"zone", "z"}, {"volume", round}}); }) == "none";
        },
        30s);
    wait_for(
        "the row", [&] { return effective(scene.bucket, "a")["volume"] == round; }, 30s);
  }
  CHECK(keeper.view.stats().removed == 0);
}
