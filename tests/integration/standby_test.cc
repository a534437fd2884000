// Goal: one worker works a type at a time, another takes over within seconds when it dies, and one
// that was paused past its lease completes nothing.

#include <catch2/catch.hpp>

#include <algorithm>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// A lease of the work of the type "thing".
std::vector<LeaseInfo> held_leases(Bucket& bucket) {
  std::vector<LeaseInfo> leases = bucket.inspect().leases();
  std::erase_if(leases, [](const LeaseInfo& lease) {
    return lease.released || !lease.name.starts_with("work.");
  });
  return leases;
}

std::size_t runs_by(const std::vector<Run>& runs, pid_t pid) {
  return static_cast<std::size_t>(
      std::ranges::count_if(runs, [&](const Run& run) { return run.pid == pid; }));
}

// Two workers of which the first holds the lease.
struct Pair {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  std::filesystem::path journal = files / "journal";
  Bucket bucket = open_bucket(server);
  std::unique_ptr<WorkerProcess> first;
  std::unique_ptr<WorkerProcess> second;

  explicit Pair(std::vector<std::string> options = {}) {
    first = std::make_unique<WorkerProcess>(server, journal, options);
    settle("warm-up", 0);
    second = std::make_unique<WorkerProcess>(server, journal, options);
  }
  void settle(const std::string& id, int value) {
    bucket.notify(thing(id), json{{"value", value}});
    wait_for(id + " to settle", [&] { return settled_with(bucket, thing(id), value); });
  }
};

}  // namespace

TEST_CASE("standby: a second worker runs nothing while the first one lives",
          "[standby][integration]") {
  Pair pair;
  for (int i = 0; i < 100; ++i) pair.settle("busy", i);
  const std::vector<Run> runs = read_runs(pair.journal);
  CHECK(runs_by(runs, pair.second->pid()) == 0);
  CHECK(runs_by(runs, pair.first->pid()) == runs.size());
  REQUIRE(held_leases(pair.bucket).size() == 1);
  CHECK(held_leases(pair.bucket)[0].last_beat.has_value());
}

TEST_CASE("standby: it takes over within five seconds of a kill -9 and nothing overlaps",
          "[standby][fault][integration]") {
  Pair pair;
  const Epoch epoch = held_leases(pair.bucket).at(0).epoch;
  pair.bucket.notify(thing("cut"), json{{"value", 1}, {"hold", (pair.files / "go").string()}});
  wait_for("the run that will be cut",
           [&] { return read_runs_of(pair.journal, "cut").size() == 1; });
  const std::int64_t killed = monotonic_ns();
  pair.first->kill();
  testing::write_file(pair.files / "go", "");
  for (int i = 0; i < 10; ++i) {
    pair.bucket.notify(thing(std::to_string(i)), json{{"value", i}});
  }
  wait_for("the standby to settle all", [&] {
    return settled_with(pair.bucket, thing("cut"), 1) && settled_with(pair.bucket, thing("9"), 9);
  });
  const std::vector<Run> runs = read_runs_of(pair.journal, "cut");
  REQUIRE(runs.size() == 2);
  CHECK(runs[1].pid == pair.second->pid());
  CHECK(runs[1].start_ns - killed < 5'000'000'000);
  CHECK(runs[1].start_ns > killed);
  CHECK(runs[1].epoch > epoch.value);
  CHECK(held_leases(pair.bucket).at(0).epoch.value == runs[1].epoch);
}

TEST_CASE("standby: a worker that ends in good order hands over at once",
          "[standby][integration]") {
  Pair pair({"--grace-ms", "5000"});
  pair.bucket.notify(thing("a"), json{{"value", 1}, {"hold", (pair.files / "go").string()}});
  wait_for("the run", [&] { return read_runs_of(pair.journal, "a").size() == 1; });
  pair.first->process().kill(SIGTERM);
  testing::write_file(pair.files / "go", "");
  REQUIRE(pair.first->process().wait(10s).has_value());
  CHECK(pair.first->process().wait(0ms)->success());
  const std::int64_t ended = monotonic_ns();
  pair.bucket.notify(thing("b"), json{{"value", 1}});
  wait_for("the standby to run", [&] { return settled_with(pair.bucket, thing("b"), 1); });
  const std::vector<Run> runs = read_runs(pair.journal);
  CHECK(runs.back().pid == pair.second->pid());
  CHECK(runs.back().start_ns - ended < 2'000'000'000);
  // The run in flight was finished, not cut: it is not repeated.
  CHECK(read_runs_of(pair.journal, "a").size() == 1);
  CHECK(settled_with(pair.bucket, thing("a"), 1));
}

TEST_CASE("standby: a worker paused past its lease completes nothing when it wakes",
          "[standby][fault][integration]") {
  Pair pair;
  const std::string go = (pair.files / "go").string();
  pair.bucket.notify(thing("a"), json{{"value", "old"}, {"hold", go}});
  wait_for("the run of the first worker",
           [&] { return read_runs_of(pair.journal, "a").size() == 1; });
  pair.first->process().kill(SIGSTOP);
  pair.bucket.notify(thing("a"), json{{"value", "new"}});
  wait_for("the second worker to settle the newer news",
           [&] { return settled_with(pair.bucket, thing("a"), "new"); });
  const Sequence revision = look(pair.bucket, thing("a")).revision;

  testing::write_file(pair.files / "go", "");
  pair.first->process().kill(SIGCONT);
  wait_for("the run of the zombie to end",
           [&] { return read_runs_of(pair.journal, "a")[0].end_ns != 0; });
  pair.settle("marker", 1);
  pair.settle("marker", 2);
  CHECK(look(pair.bucket, thing("a")).revision == revision);
  CHECK(stored(pair.bucket, thing("a"))["value"] == "new");
  CHECK(read_runs_of(pair.journal, "marker").back().pid == pair.second->pid());

  // The zombie is a standby again, not dead.
  CHECK(pair.first->process().running());
  pair.second->kill();
  pair.settle("after", 1);
  CHECK(read_runs_of(pair.journal, "after").back().pid == pair.first->pid());
}

TEST_CASE("standby: a zombie that worked on the very token of the next owner is fenced",
          "[standby][fault][integration]") {
  Pair pair;
  const std::string go = (pair.files / "go").string();
  pair.bucket.notify(thing("a"), json{{"value", 1}, {"hold", go}});
  wait_for("the run of the first worker",
           [&] { return read_runs_of(pair.journal, "a").size() == 1; });
  pair.first->process().kill(SIGSTOP);
  wait_for("the second worker to run the same token",
           [&] { return read_runs_of(pair.journal, "a").size() == 2; });
  testing::write_file(pair.files / "go", "");
  wait_for("the second worker to settle it",
           [&] { return settled_with(pair.bucket, thing("a"), 1); });
  const Matter after = look(pair.bucket, thing("a"));
  CHECK(stored(pair.bucket, thing("a"))["by"] == pair.second->pid());

  pair.first->process().kill(SIGCONT);
  wait_for("the run of the zombie to end",
           [&] { return read_runs_of(pair.journal, "a")[0].end_ns != 0; });
  pair.settle("marker", 1);
  CHECK(look(pair.bucket, thing("a")).revision == after.revision);
  CHECK(stored(pair.bucket, thing("a"))["by"] == pair.second->pid());
}

TEST_CASE("standby: an observer has a warm standby too", "[standby][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  WorkerProcess first(server, journal, {"--observe", "speaker"});
  bucket.report("speaker", "a", json{{"value", 1}});
  wait_for("the first report", [&] { return settled_with(bucket, thing("a"), 1); });
  WorkerProcess second(server, journal, {"--observe", "speaker"});
  bucket.report("speaker", "a", json{{"value", 2}});
  wait_for("the second report", [&] { return settled_with(bucket, thing("a"), 2); });
  CHECK(runs_by(read_runs(journal, "report"), second.pid()) == 0);
  first.kill();
  bucket.report("speaker", "a", json{{"value", 3}});
  wait_for("the third report", [&] { return settled_with(bucket, thing("a"), 3); });
  const std::vector<Run> calls = read_runs(journal, "report");
  CHECK(calls.back().pid == second.pid());
  CHECK(calls.size() == 3);
}
