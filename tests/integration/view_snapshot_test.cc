// Goal: an owner that begins with a snapshot tells what one that begins cold would tell, and one
// whose snapshot cannot be trusted begins cold.
// Method: keepers in this process that leave snapshots; what changes while nobody keeps the view;
// `Views::compare`, which reads everything, as the oracle.

#include <catch2/catch.hpp>

#include <random>

#include "view_scene.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

struct SnapshotScene : Scene {
  testing::TemporaryDirectory directory;
  ViewSnapshots snapshots{directory.path().string()};

  std::filesystem::path file() const { return directory / "test.things.snapshot"; }

  void report_some(int devices) {
    zone("z", "jazz");
    zone("y", "rock");
    for (int i = 0; i < devices; ++i)
      report(id(i), {{"zone", i % 3 == 2 ? "y" : "z"}, {"volume", i}});
  }
  static std::string id(int device) { return "p" + std::to_string(device); }

  // Does the work there is, as a worker that stores what it is told.
  void work_off() {
    Journal journal;
    Bucket worked = open_bucket(server);
    worked.register_type(kType, journal.noting(), quick());
    Worker worker(worked);
    wait_for("the work to be done", [&] {
      const auto all = matters(bucket);
      // Identities that another view owns are parked for good.
      return std::ranges::all_of(all, [](const auto& one) {
        return !one.second.token || one.second.phase == Phase::parked;
      });
    });
  }

  // Keeps the view for a moment; a snapshot of it is left.
  void keep(const View& view = zones_view()) {
    Keeper keeper(server, view, snapshots);
    keeper.worker.stop();
    REQUIRE(std::filesystem::exists(file()));
  }

  // What an owner that begins cold would tell.
  std::set<std::string> different(const View& view = zones_view()) {
    CompareOptions options;
    options.settle = 0ms;
    options.samples_max = 1'000;
    std::set<std::string> ids;
    for (const RowDifference& one : bucket.views().compare(view, options).samples) {
      ids.insert(one.id);
    }
    return ids;
  }
  std::uint64_t differences() { return different().size(); }

  ViewInfo state() {
    const auto views = bucket.views().list();
    REQUIRE(views.size() == 1);
    return views[0];
  }
  std::string why_cold() {
    ViewInfo found;
    wait_for("the state", [&] { return (found = state()).loaded; });
    CHECK((found.snapshot_at == 0) == !found.cold_because.empty());
    return found.cold_because;
  }
  void store_entry(const std::string& id, const json& value, const std::string& view = "things;0") {
    raw.store(names().entry_subject(key_of(thing(id))), value.dump(), {{"Dmm-View", view}});
  }
  void remove_entry(const std::string& id) {
    raw.store(names().entry_subject(key_of(thing(id))), "", {{"KV-Operation", "DEL"}});
  }
  // As whoever gives up what is parked.
  void drop_token(const std::string& id) {
    const auto found = bucket.inspect().get(thing(id));
    if (!found || found->token.value == 0) return;
    raw.request("$JS.API.STREAM.MSG.DELETE." + names().work(1).name,
                json{{"seq", found->token.value}}.dump());
  }
  void drop_report(const std::string& device) { raw.store("dmm.test.report.player." + device, ""); }
};

std::set<std::string> told_by(SnapshotScene& scene, const Sequence before) {
  return ids_with_token_after(scene.bucket, before);
}

}  // namespace

TEST_CASE("view snapshot: the next owner tells exactly the difference",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  scene.report_some(30);
  const bool worked = GENERATE(true, false);
  { Keeper keeper(scene.server, zones_view(), scene.snapshots); }
  if (worked) {
    scene.work_off();
    scene.keep();
  }
  scene.report("p0", {{"zone", "z"}, {"volume", 99}});
  scene.report("p1", {{"zone", "z"}, {"volume", 1}, {"uptime", 7}});  // no other row
  scene.drop_report("p3");
  scene.report("new", {{"zone", "z"}, {"volume", 0}});
  scene.zone("y", "blues");
  // Others had their hands in it.
  scene.store_entry("p4", {{"id", "p4"}, {"list", "jazz"}, {"volume", 0}});
  scene.remove_entry("p6");
  scene.bucket.notify(thing("p7"), json{{"volume", 1'000}});
  scene.bucket.poke(thing("p9"));
  scene.bucket.remove(thing("p10"));
  scene.bucket.notify(thing("hand-made"), json{{"value", 1}});
  const std::uint64_t expected = scene.differences();
  const Sequence before = last_token(scene.bucket);

  Keeper keeper(scene.server, zones_view(), scene.snapshots);
  CHECK(keeper.view.stats().restored == 32);
  CHECK(keeper.view.stats().changes == 5);
  CHECK(keeper.view.stats().rows == 30);
  CHECK(keeper.view.stats().notified == expected);
  CHECK(scene.why_cold() == "");
  std::set<std::string> ids{"p0", "p3", "new", "p7", "p10"};
  for (int i = 2; i < 30; i += 3) ids.insert(SnapshotScene::id(i));
  // Without a worker their tokens say what they should.
  if (worked) ids.insert({"p4", "p6"});
  CHECK(told_by(scene, before) == ids);
  CHECK(look(scene.bucket, thing("p3")).deleted);
  CHECK(effective(scene.bucket, "p4") == json{{"id", "p4"}, {"list", "jazz"}, {"volume", 4}});
  CHECK(effective(scene.bucket, "p5")["list"] == "blues");
}

TEST_CASE("view snapshot: nothing is told and nothing read where nothing changed",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  scene.report_some(30);
  scene.keep();
  if (GENERATE(true, false)) scene.work_off();
  for (int round = 0; round < 3; ++round) {
    Keeper keeper(scene.server, zones_view(), scene.snapshots);
    CHECK(keeper.view.stats().restored == 32);
    CHECK(keeper.view.stats().changes == 0);
    CHECK(keeper.view.stats().notified == 0);
    CHECK(keeper.view.stats().rows == 30);
    CHECK(scene.state().snapshot_at > 0);
  }
}

TEST_CASE("view snapshot: work that is done meanwhile is not told again",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  scene.report_some(6);
  scene.keep();
  scene.work_off();
  {
    // There and back: the run of p0 finds its entry as it is to be, and writes none.
    Keeper keeper(scene.server, zones_view(), scene.snapshots);
    scene.report("p0", {{"zone", "z"}, {"volume", 50}});
    keeper.wait_taken(1);  // else the stream may keep the second one only
    scene.report("p0", {{"zone", "z"}, {"volume", 0}});
    scene.report("p1", {{"zone", "z"}, {"volume", 51}});
    scene.drop_report("p3");
    keeper.wait_taken(4);
    wait_for("the removal", [&] { return keeper.view.stats().removed == 1; });
  }
  scene.work_off();
  for (int round = 0; round < 2; ++round) {
    CHECK(scene.differences() == 0);
    Keeper keeper(scene.server, zones_view(), scene.snapshots);
    CHECK(scene.why_cold() == "");
    CHECK(keeper.view.stats().notified == 0);
    CHECK(keeper.view.stats().rows == 5);
  }
  CHECK(matters(scene.bucket).size() == 5);
}

TEST_CASE("view snapshot: one that cannot be trusted is not used", "[view_snapshot][integration]") {
  SnapshotScene scene;
  scene.report_some(30);
  scene.keep();
  const std::string bytes = testing::read_file(scene.file());
  View view = zones_view();
  std::string why;
  std::uint64_t told = 1;
  SECTION("a byte is another one") {
    std::string damaged = bytes;
    damaged[damaged.size() / 2] ^= 1;
    testing::write_file(scene.file(), damaged);
    why = "the checksum does not fit";
  }
  SECTION("it was cut off") {
    testing::write_file(scene.file(), std::string_view(bytes).substr(0, bytes.size() - 1));
    why = "bytes, not";
  }
  SECTION("it is of another release") {
    view.pipeline[1]["@project"]["more"] = 1;
    why = "release";
    told = 30;
  }
  SECTION("it is too old") {
    scene.snapshots.age_max = 1ms;
    why = "s old";
  }
  SECTION("it is of another namespace") {
    std::filesystem::create_directory(scene.directory / "other");
    Bucket bucket = Bucket::open("other", [&] {
      BucketOptions options;
      options.connection.servers = {scene.server.url()};
      options.logger = Logger();
      options.snapshots.directory = scene.directory / "other";
      return options;
    }());
    ViewStream& other = bucket.view(zones_view());
    {
      Worker worker(bucket);
      wait_for("the other view", [&] { return other.stats().loaded; });
    }
    std::filesystem::copy_file(scene.directory / "other/other.things.snapshot", scene.file(),
                               std::filesystem::copy_options::overwrite_existing);
    why = "namespace other";
  }
  SECTION("a person had the view computed anew") {
    {
      Keeper keeper(scene.server, zones_view());  // which keeps none
      scene.bucket.views().rebuild(kView);
      wait_for("the rebuild", [&] { return keeper.view.stats().rebuilds == 2; });
    }
    why = "void";
  }
  SECTION("it is no file") {
    std::filesystem::remove(scene.file());
    std::filesystem::create_directory(scene.file());
    why = "no file";
  }
  SECTION("there is none") {
    std::filesystem::remove(scene.file());
    why = "no snapshot";
  }
  scene.report("p0", {{"zone", "z"}, {"volume", 99}});
  Keeper keeper(scene.server, view, scene.snapshots);
  CHECK(keeper.view.stats().restored == 0);
  CHECK(keeper.view.stats().rows == 30);
  CHECK(keeper.view.stats().notified == told);
  CHECK_THAT(scene.why_cold(), Catch::Contains(why));
}

TEST_CASE("view snapshot: lost reports are found and tear nothing down",
          "[view_snapshot][fault][integration]") {
  SnapshotScene scene;
  scene.report_some(20);
  scene.keep();
  const std::string stream = names().reports(1).name;
  SECTION("half of them purged") {
    scene.raw.request("$JS.API.STREAM.PURGE." + stream, R"({"keep":10})");
  }
  SECTION("purged and others in their place while nobody looks") {
    scene.raw.request("$JS.API.STREAM.PURGE." + stream, R"({"keep":10})");
    { Keeper other(scene.server, zones_view()); }  // on another machine
    for (int i = 100; i < 130; ++i)
      scene.report(SnapshotScene::id(i), {{"zone", "z"}, {"volume", 1}});
  }
  SECTION("the stream made anew") {
    scene.raw.request("$JS.API.STREAM.DELETE." + stream, "");
  }
  Keeper keeper(scene.server, zones_view(), scene.snapshots);
  CHECK(keeper.view.stats().restored == 0);
  CHECK(scene.why_cold() != "");
  CHECK(keeper.view.stats().removed == 0);
  CHECK(keeper.view.stats().held >= 10);
  for (const auto& [id, matter] : matters(scene.bucket)) CHECK_FALSE(matter.deleted);
}

TEST_CASE("view snapshot: a report that was purged while others came is told as removed",
          "[view_snapshot][fault][integration]") {
  SnapshotScene scene;
  scene.report_some(20);
  scene.keep();
  const std::string gone = names().report_subject("player", "p0");
  scene.raw.request("$JS.API.STREAM.PURGE." + names().reports(1).name,
                    json{{"filter", gone}}.dump());
  scene.report("new", {{"zone", "z"}, {"volume", 1}});
  Keeper keeper(scene.server, zones_view(), scene.snapshots);
  wait_for("the row to go", [&] { return look(scene.bucket, thing("p0")).deleted; });
  CHECK(keeper.view.stats().restored == 0);
  CHECK_THAT(scene.why_cold(), Catch::Contains("p0 went without a word"));
  CHECK(keeper.view.stats().held == 0);
  CHECK(look(scene.bucket, thing("p0")).deleted);
}

TEST_CASE("view snapshot: lost entries and tokens are told again",
          "[view_snapshot][fault][integration]") {
  SnapshotScene scene;
  scene.report_some(20);
  { Keeper keeper(scene.server, zones_view(), scene.snapshots); }
  bool worked = true;
  SECTION("half of the entries purged") {
    scene.work_off();
    scene.keep();
    scene.raw.request("$JS.API.STREAM.PURGE." + names().cache(1).name, R"({"keep":10})");
  }
  SECTION("the bucket made anew") {
    scene.work_off();
    scene.keep();
    scene.raw.request("$JS.API.STREAM.DELETE." + names().cache(1).name, "");
    open_bucket(scene.server);
  }
  SECTION("the tokens made anew") {
    worked = false;
    scene.raw.request("$JS.API.STREAM.DELETE." + names().work(1).name, "");
    open_bucket(scene.server);
  }
  SECTION("the tokens purged") {
    worked = false;
    scene.raw.request("$JS.API.STREAM.PURGE." + names().work(1).name, "");
  }
  const std::uint64_t expected = scene.differences();
  CHECK(expected >= 10);
  Keeper keeper(scene.server, zones_view(), scene.snapshots);
  CHECK(keeper.view.stats().restored == 22);
  CHECK(keeper.view.stats().notified == expected);
  CHECK(scene.differences() == 0);
  CHECK(matters(scene.bucket).size() == 20);
  CHECK((worked || expected == 20));
}

TEST_CASE("view snapshot: removals stay held and what is left out stays so",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  View view = zones_view();
  view.removals_free = 1;
  scene.report_some(30);
  scene.report("twice", {{"zone", "z"}, {"volume", 1}});
  {
    Keeper keeper(scene.server, view, scene.snapshots);
    scene.drop_zone("y");
    wait_for("the removals to be held", [&] { return keeper.view.stats().held == 10; });
    scene.raw.store("dmm.test.report.player.p0", "not json");
    scene.raw.store("dmm.test.report.player.text", "nor this");
    wait_refused(scene.bucket, "player.p0", "DMM-0503");
    wait_refused(scene.bucket, "player.text", "DMM-0503");
  }
  for (int round = 0; round < 2; ++round) {
    Keeper keeper(scene.server, view, scene.snapshots);
    CHECK(scene.why_cold() == "");
    CHECK(keeper.view.stats().held == 10);
    CHECK(keeper.view.stats().removed == 0);
    CHECK(keeper.view.stats().notified == 0);
    wait_refused(scene.bucket, "player.p0", "DMM-0503");
    wait_refused(scene.bucket, "player.text", "DMM-0503");
    // Its last sound document still stands.
    CHECK(effective(scene.bucket, "p0")["volume"] == 0);
    CHECK(keeper.view.stats().rows == 21);
  }
  Keeper keeper(scene.server, view, scene.snapshots);
  scene.report("p0", {{"zone", "z"}, {"volume", 7}});
  wait_refused(scene.bucket, "player.p0", "none");
  scene.zone("y", "rock");
  wait_for("the rows to be back", [&] { return keeper.view.stats().held == 0; });
  keeper.wait_told();
  CHECK(keeper.view.stats().removed == 0);
  CHECK(effective(scene.bucket, "p0")["volume"] == 7);
}

TEST_CASE("view snapshot: the order of reports and their age go on",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  View view = zones_view();
  view.inputs[0].age = 10s;  // longer than it takes to come to the checks
  scene.report_some(1);
  scene.report("a", {{"zone", "z"}, {"volume", 5}, {"seq", 10}, {"boot", "x"}});
  scene.keep(view);
  scene.report("a", {{"zone", "z"}, {"volume", 4}, {"seq", 9}, {"boot", "x"}});
  Keeper keeper(scene.server, view, scene.snapshots);
  CHECK(keeper.view.stats().restored == 4);
  CHECK(keeper.view.stats().stale == 1);
  CHECK(effective(scene.bucket, "a")["volume"] == 5);
  wait_for(
      "both to expire", [&] { return keeper.view.stats().removed == 2; }, 20s);
  CHECK(keeper.view.stats().expired == 2);
}

TEST_CASE("view snapshot: an old one is good enough after a crash",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  scene.report_some(30);
  scene.keep();
  scene.work_off();
  const std::string old = testing::read_file(scene.file());
  {
    Keeper keeper(scene.server, zones_view(), scene.snapshots);
    for (int i = 0; i < 30; i += 3)
      scene.report(SnapshotScene::id(i), {{"zone", "y"}, {"volume", i}});
    scene.drop_report("p1");
    keeper.wait_taken(11);
    wait_for("the removal", [&] { return keeper.view.stats().removed == 1; });
  }
  if (GENERATE(true, false)) scene.work_off();
  testing::write_file(scene.file(), old);
  CHECK(scene.differences() == 0);
  Keeper keeper(scene.server, zones_view(), scene.snapshots);
  CHECK(scene.why_cold() == "");
  CHECK(keeper.view.stats().changes == 11);
  CHECK(keeper.view.stats().notified == 0);
  CHECK(keeper.view.stats().rows == 29);
}

namespace {

// A source that tells what it has, whole, as a table does.
class WholeSource final : public Source {
 public:
  std::map<std::string, json> rows;
  bool complete = true;

  std::string description() const override { return "by hand"; }
  std::unique_ptr<SourceReading> read(const json&, SourceSink& sink) override {
    sink_ = &sink;
    for (const auto& [key, row] : rows) {
      sink.on_row({key, row.dump(), "1", std::chrono::system_clock::now()});
    }
    sink.on_loaded();
    if (complete) sink.on_complete();
    return std::make_unique<Reading>();
  }
  SourceSink& sink() { return *sink_; }

 private:
  struct Reading final : SourceReading {
    void grant(std::size_t) override {}
    json baseline() const override { return {}; }
  };
  SourceSink* sink_ = nullptr;
};

}  // namespace

TEST_CASE("view snapshot: a source that tells everything again is compared with what it told",
          "[view_snapshot][integration]") {
  SnapshotScene scene;
  const auto source = std::make_shared<WholeSource>();
  View view;
  view.name = kView;
  view.type = kType;
  view.inputs = {ViewInput::table("hand", source)};
  view.pipeline = json::parse(R"([{"@project": {"id": "$.id", "n": "$.n"}}])");
  for (int i = 0; i < 10; ++i) {
    const std::string id = SnapshotScene::id(i);
    source->rows[id] = {{"id", id}, {"n", i}};
  }
  scene.keep(view);
  source->rows["p1"]["n"] = 11;
  source->rows.erase("p2");
  source->complete = GENERATE(true, false);
  Keeper keeper(scene.server, view, scene.snapshots);
  CHECK(keeper.view.stats().restored == 10);
  if (!source->complete) {
    CHECK(keeper.view.stats().notified == 1);
    CHECK(keeper.view.stats().rows == 10);
    source->sink().on_complete();
  }
  wait_for("p2 to be told as removed", [&] { return keeper.view.stats().removed == 1; });
  CHECK(keeper.view.stats().notified == 2);
  CHECK(look(scene.bucket, thing("p2")).deleted);
  CHECK(effective(scene.bucket, "p1")["n"] == 11);
}

namespace {

// Devices, people, workers and strangers, at random.
struct Hands {
  static constexpr int kDevices = 60;
  SnapshotScene& scene;
  std::mt19937& random;

  int pick(int below) { return std::uniform_int_distribution(0, below - 1)(random); }
  std::string zone() { return "z" + std::to_string(pick(4)); }
  void report(const std::string& id) { scene.report(id, {{"zone", zone()}, {"volume", pick(3)}}); }
  void begin() {
    for (int zone = 0; zone < 4; ++zone) scene.zone("z" + std::to_string(zone), "list 0");
    for (int i = 0; i < kDevices; ++i) report(SnapshotScene::id(i));
  }

  void do_one() {
    const std::string id = SnapshotScene::id(pick(kDevices));
    switch (pick(13)) {
      case 0:
        return scene.drop_report(id);
      case 1:
        return scene.zone(zone(), "list " + std::to_string(pick(3)));
      case 2:
        return scene.drop_zone(zone());
      case 3:
        return scene.store_entry(id, {{"id", id}, {"list", "other"}, {"volume", pick(3)}});
      case 4:
        return scene.remove_entry(id);
      case 5:
        return scene.bucket.notify(thing(id), json{{"volume", pick(3)}});
      case 6:
        return scene.bucket.poke(thing(id));
      case 7:
        return scene.bucket.remove(thing(id));
      case 8:
        scene.bucket.inspect().purge(thing(id));
        return;
      case 9:
        return scene.store_entry(id, {{"id", id}}, "another;0");
      case 10:
        return scene.drop_token(id);
      default:
        return report(id);
    }
  }
  void do_some(int below) {
    for (int left = pick(below); left > 0; --left) do_one();
  }
};

}  // namespace

TEST_CASE("view snapshot: whatever happened an owner tells what a cold one would tell",
          "[view_snapshot][integration]") {
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr int kRounds = 25;
  SnapshotScene scene;
  Hands hands{scene, random};
  View view = zones_view();
  view.removals_free = 1'000'000;
  hands.begin();
  std::string old;
  std::size_t warm = 0;
  for (int round = 0; round < kRounds; ++round) {
    CAPTURE(round);
    const std::set<std::string> expected = scene.different(view);
    const Sequence before = last_token(scene.bucket);
    {
      Keeper keeper(scene.server, view, scene.snapshots);
      const ViewStats begun = keeper.view.stats();
      if (begun.restored > 0) ++warm;
      CHECK(told_by(scene, before) == expected);
      CHECK(begun.notified == expected.size());
      hands.do_some(20);
    }
    // Now and then one that was killed left an older one.
    if (hands.pick(3) == 0 && !old.empty()) testing::write_file(scene.file(), old);
    if (hands.pick(2) == 0) old = testing::read_file(scene.file());
    hands.do_some(20);
    if (hands.pick(2) == 0) scene.work_off();
    if (hands.pick(2) == 0) hands.do_some(5);
  }
  CHECK(warm == kRounds - 1);
}
