// Goal: what an earlier version of dmm left on a server and on disk is worked on by this one.
// Method: stores of JetStream and snapshots of views that were recorded once and are kept in
// tests/integration/saved; none of them is ever written again.
//
// To record one for a new version of a format, with DIR empty and outside of this tree:
//   DMM_RECORD_STORE=DIR dmm_fleet_test "[record]" && tar -C DIR -czf saved/NAME.tar.gz .

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

#include "dmm/control.h"
#include "tests/integration/view_scene.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

constexpr int kPlayers = 6;
const Identity kGone{kType, "gone"};

testing::NatsServerOptions keep_in(const std::filesystem::path& directory) {
  testing::NatsServerOptions options;
  options.store_directory = directory / "jetstream";
  return options;
}

// The kept ones grow older every day, and their age is not what is tested.
ViewSnapshots snapshots_in(const std::filesystem::path& directory) {
  return {.directory = (directory / "snapshots").string(), .age_max = std::chrono::years(100)};
}

// Parks "broken" for good and stores what the others are told.
AnyMaterializer careful() {
  return AnyMaterializer{[](Context& context, json& cache) {
    if (context.identity().id == "broken" && cache.value("value", 0) < 2) {
      return Outcome::park("there is no such device");
    }
    if (cache.is_object()) cache["stored"] = true;
    return Outcome::done();
  }};
}

std::string id_of(int player) {
  return "p" + std::to_string(player);
}

void unpack(const std::filesystem::path& archive, const std::filesystem::path& directory) {
  testing::ChildOptions options;
  options.arguments = {"-C", directory.string(), "-xzf", archive.string()};
  testing::ChildProcess tar("tar", std::move(options));
  const auto ended = tar.wait(60s);
  REQUIRE((ended && ended->success()));
}

Epoch last_epoch(Bucket& bucket) {
  Epoch last;
  for (const LeaseInfo& lease : bucket.inspect().leases()) {
    if (lease.name == "work.thing") last = std::max(last, lease.epoch);
  }
  return last;
}

std::vector<std::filesystem::path> archives() {
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(DMM_SAVED_STORES)) {
    all.push_back(entry.path());
  }
  return all;
}

}  // namespace

TEST_CASE("saved store: one is recorded", "[.][record]") {
  const char* const directory = std::getenv("DMM_RECORD_STORE");
  REQUIRE(directory != nullptr);
  Scene scene(keep_in(directory));
  scene.zone("z", "jazz");
  for (int i = 0; i < kPlayers; ++i) scene.report(id_of(i), {{"zone", "z"}, {"volume", i}});
  {
    Keeper keeper(scene.server, zones_view(), snapshots_in(directory));
    Bucket worked = open_bucket(scene.server);
    worked.register_type(kType, careful(), quick());
    Worker worker(worked);
    scene.bucket.notify(thing("settled"), json{{"value", 1}});
    scene.bucket.notify(thing("broken"), json{{"value", 1}});
    scene.bucket.notify(kGone, json{{"value", 1}});
    wait_settled_on(scene.bucket, thing("settled"), json{{"value", 1}, {"stored", true}});
    wait_for("the parked one",
             [&] { return phase(scene.bucket, thing("broken")) == Phase::parked; });
    for (int i = 0; i < kPlayers; ++i) {
      wait_for("a player", [&] { return effective(scene.bucket, id_of(i)).contains("stored"); });
    }
    scene.raw.store(names().token_subject(thing("rubbish")), "rubbish");
    wait_for("the refused one",
             [&] { return look(scene.bucket, thing("rubbish")).phase == Phase::parked; });
    wait_for("the first to be gone", [&] { return phase(scene.bucket, kGone) == Phase::settled; });
    keeper.worker.stop();
  }
  scene.bucket.control().set_policy(kType, {{"rate", 500}});
  scene.bucket.control().pause({kType, "paused"}, "a repair", "somebody");
  scene.bucket.notify(thing("paused"), json{{"value", 1}});
  scene.bucket.notify(thing("waiting"), json{{"value", 1}});
  scene.bucket.remove(kGone);
  scene.server.stop();
}

TEST_CASE("saved store: what an earlier version left is worked on", "[upgrade][integration]") {
  REQUIRE_FALSE(archives().empty());
  for (const std::filesystem::path& archive : archives()) {
    INFO(archive.filename().string());
    const testing::TemporaryDirectory directory;
    unpack(archive, directory.path());
    Scene scene(keep_in(directory.path()));
    // As it was left.
    CHECK(scene.bucket.inspect().losses().empty());
    CHECK(stored(scene.bucket, thing("settled")) == json{{"value", 1}, {"stored", true}});
    const Matter broken = look(scene.bucket, thing("broken"));
    CHECK(broken.phase == Phase::parked);
    CHECK(broken.error.find("there is no such device") != std::string::npos);
    CHECK(look(scene.bucket, thing("rubbish")).phase == Phase::parked);
    REQUIRE(scene.bucket.control().pauses().size() == 1);
    CHECK(scene.bucket.control().pauses()[0].by == "somebody");
    const Epoch before = last_epoch(scene.bucket);
    REQUIRE(before > Epoch{});

    Bucket worked = open_bucket(scene.server);
    Journal journal;
    worked.register_type(kType, journal.noting([](Context& context, json& cache) {
      if (!context.deleted()) cache["stored"] = true;
      return Outcome::done();
    }),
                         quick());
    Worker worker(worked);
    wait_settled_on(scene.bucket, thing("waiting"), json{{"value", 1}, {"stored", true}});
    wait_for("the removal", [&] { return !scene.bucket.inspect().get(kGone); });
    CHECK(journal.count("settled") == 0);
    CHECK(journal.count("broken") == 0);
    CHECK(phase(scene.bucket, thing("paused")) != Phase::settled);
    scene.bucket.control().resume({kType, "paused"});
    wait_settled_on(scene.bucket, thing("paused"), json{{"value", 1}, {"stored", true}});
    scene.bucket.notify(thing("broken"), json{{"value", 2}});
    wait_settled_on(scene.bucket, thing("broken"), json{{"value", 2}, {"stored", true}});
    REQUIRE(scene.bucket.control().types().size() == 1);
    CHECK(scene.bucket.control().types()[0].set.at("rate") == 500);

    // The view begins with its snapshot and has nothing to tell but what changed since.
    scene.report(id_of(0), {{"zone", "z"}, {"volume", 77}});
    Keeper keeper(scene.server, zones_view(), snapshots_in(directory.path()));
    CHECK(keeper.view.stats().restored > 0);
    CHECK(keeper.view.stats().rows == kPlayers);
    wait_for("the change", [&] { return effective(scene.bucket, "p0").value("volume", 0) == 77; });
    CHECK(keeper.view.stats().notified == 1);
    wait_for("all to settle", [&] {
      const auto all = matters(scene.bucket);
      return std::ranges::all_of(all, [](const auto& one) {
        return one.second.phase == Phase::settled || one.first == "rubbish";
      });
    });
    CHECK(last_epoch(scene.bucket) > before);
  }
}
