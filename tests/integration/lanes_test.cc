// Goal: the workers of a type share its lanes fairly, those of one that dies go on elsewhere within
// seconds, and one that was paused past its lease completes nothing.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// How many lanes each worker of the type "thing" has, fewest first.
std::vector<std::size_t> shares(Bucket& bucket) {
  std::vector<std::size_t> lanes;
  for (const LeaseInfo& lease : bucket.inspect().leases()) {
    if (lease.name == "work.thing" && !lease.released) lanes.push_back(lease.lanes.value_or(0));
  }
  std::ranges::sort(lanes);
  return lanes;
}

std::size_t runs_by(const std::vector<Run>& runs, pid_t pid) {
  return static_cast<std::size_t>(
      std::ranges::count_if(runs, [&](const Run& run) { return run.pid == pid; }));
}

// Two workers that have shared the lanes.
struct Pair {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  std::filesystem::path journal = files / "journal";
  Bucket bucket = open_bucket(server);
  std::unique_ptr<WorkerProcess> first;
  std::unique_ptr<WorkerProcess> second;

  explicit Pair(std::vector<std::string> options = {}) {
    first = std::make_unique<WorkerProcess>(server, journal, options);
    second = std::make_unique<WorkerProcess>(server, journal, options);
    wait_shared({32, 32});
  }
  void wait_shared(const std::vector<std::size_t>& lanes) {
    wait_for("the lanes to be shared", [&] { return shares(bucket) == lanes; });
  }
  void settle(const std::string& id, const json& value) {
    bucket.notify(thing(id), json{{"value", value}});
    wait_for(id + " to settle", [&] { return settled_with(bucket, thing(id), value); });
  }
  pid_t who_ran(const std::string& id) { return read_runs_of(journal, id).back().pid; }
  // An identity that this worker works, after one run of it.
  std::string one_of(const WorkerProcess& worker) {
    for (int i = 0; i < 100; ++i) {
      const std::string id = fmt::format("one-{}", i);
      settle(id, 0);
      if (who_ran(id) == worker.pid()) return id;
    }
    FAIL("no identity is worked by that worker");
    return {};
  }
};

}  // namespace

TEST_CASE("lanes: two workers share the identities and each is worked by one of them",
          "[lanes][integration]") {
  Pair pair;
  for (int value = 1; value <= 3; ++value) {
    for (int i = 0; i < 50; ++i) {
      pair.bucket.notify(thing(std::to_string(i)), json{{"value", value}});
    }
    wait_for("all to settle", [&] {
      return std::ranges::all_of(std::views::iota(0, 50), [&](int i) {
        return settled_with(pair.bucket, thing(std::to_string(i)), value);
      });
    });
  }
  const std::vector<Run> runs = read_runs(pair.journal);
  CHECK(runs_by(runs, pair.first->pid()) > 30);
  CHECK(runs_by(runs, pair.second->pid()) > 30);
  for (int i = 0; i < 50; ++i) {
    std::set<pid_t> who;
    for (const Run& run : read_runs_of(pair.journal, std::to_string(i))) who.insert(run.pid);
    CHECK(who.size() == 1);
  }
}

namespace {

// After how long what a killed worker ran is run by another one.
std::chrono::nanoseconds take_over() {
  Pair pair;
  const std::string cut = pair.one_of(*pair.first);
  const std::string other = pair.one_of(*pair.second);
  const std::uint64_t epoch = read_runs_of(pair.journal, cut).back().epoch;
  const std::size_t before = read_runs_of(pair.journal, cut).size();
  pair.bucket.notify(thing(cut), json{{"value", 1}, {"hold", (pair.files / "go").string()}});
  wait_for("the run that will be cut",
           [&] { return read_runs_of(pair.journal, cut).size() == before + 1; });
  const std::int64_t killed = monotonic_ns();
  pair.first->kill();
  testing::write_file(pair.files / "go", "");
  // The lanes of the other worker go on meanwhile.
  pair.settle(other, "meanwhile");
  wait_for("what was cut to settle", [&] { return settled_with(pair.bucket, thing(cut), 1); });
  const std::vector<Run> runs = read_runs_of(pair.journal, cut);
  REQUIRE(runs.size() == before + 2);
  CHECK(runs.back().pid == pair.second->pid());
  CHECK(runs.back().start_ns > killed);
  CHECK(read_runs_of(pair.journal, other).back().start_ns < runs.back().start_ns);
  CHECK(runs.back().epoch > epoch);
  pair.wait_shared({64});  // who saw that it is dead said so
  return std::chrono::nanoseconds(runs.back().start_ns - killed);
}

}  // namespace

TEST_CASE("lanes: those of a worker that was killed go on elsewhere within five seconds",
          "[lanes][fault][integration]") {
  std::chrono::nanoseconds took = take_over();
  // Once more where the machine stood still.
  for (int i = 0; i < 2 && took >= 5s; ++i) took = take_over();
  CHECK(took < 5s);
}

TEST_CASE(
    "lanes: who shares the run directory of one that was killed sees it before its leases end",
    "[lanes][fault][integration]") {
  const testing::TemporaryDirectory run;
  const auto dead = [&] {
    const std::filesystem::directory_iterator files(run.path());
    return std::ranges::count_if(
        files, [](const auto& file) { return file.path().extension() == ".dead"; });
  };
  Pair pair({"--run-directory", run.path().string()});
  const std::string id = pair.one_of(*pair.first);
  CHECK(dead() == 0);
  pair.first->kill();
  wait_for("the death to be seen", [&] { return dead() > 0; });
  pair.settle(id, 1);
  CHECK(pair.who_ran(id) == pair.second->pid());
  // The next process sees the death of all before it, and waits for none of them.
  pair.second->kill();
  WorkerProcess third(pair.server, pair.journal, {"--run-directory", run.path().string()});
  pair.settle(id, 2);
  CHECK(pair.who_ran(id) == third.pid());
}

namespace {

// For how long the lanes of a worker that ends in good order are nobody's.
std::chrono::nanoseconds hand_over() {
  Pair pair({"--grace-ms", "5000"});
  const std::string id = pair.one_of(*pair.first);
  const std::size_t before = read_runs_of(pair.journal, id).size();
  pair.bucket.notify(thing(id), json{{"value", 1}, {"hold", (pair.files / "go").string()}});
  wait_for("the run", [&] { return read_runs_of(pair.journal, id).size() == before + 1; });
  pair.first->process().kill(SIGTERM);
  testing::write_file(pair.files / "go", "");
  REQUIRE(pair.first->process().wait(10s).has_value());
  CHECK(pair.first->process().wait(0ms)->success());
  const std::int64_t ended = monotonic_ns();
  pair.settle(id, 2);
  const std::vector<Run> runs = read_runs_of(pair.journal, id);
  CHECK(runs.back().pid == pair.second->pid());
  // The run in flight was finished, not cut: it is not repeated.
  CHECK(runs.size() == before + 2);
  return std::chrono::nanoseconds(runs.back().start_ns - ended);
}

}  // namespace

TEST_CASE("lanes: a worker that ends in good order hands over at once", "[lanes][integration]") {
  std::chrono::nanoseconds took = hand_over();
  // Once more where the machine stood still; lanes that are not given back take longer each time.
  for (int i = 0; i < 2 && took >= 2s; ++i) took = hand_over();
  CHECK(took < 2s);
}

TEST_CASE("lanes: a worker paused past its lease completes nothing when it wakes",
          "[lanes][fault][integration]") {
  Pair pair;
  const std::string id = pair.one_of(*pair.first);
  const std::size_t before = read_runs_of(pair.journal, id).size();
  const std::string go = (pair.files / "go").string();
  pair.bucket.notify(thing(id), json{{"value", "old"}, {"hold", go}});
  wait_for("the run of the first worker",
           [&] { return read_runs_of(pair.journal, id).size() == before + 1; });
  pair.first->process().kill(SIGSTOP);
  pair.bucket.notify(thing(id), json{{"value", "new"}});
  wait_for("the second worker to settle the newer news",
           [&] { return settled_with(pair.bucket, thing(id), "new"); });
  const Sequence revision = look(pair.bucket, thing(id)).revision;

  testing::write_file(pair.files / "go", "");
  pair.first->process().kill(SIGCONT);
  wait_for("the run of the zombie to end",
           [&] { return read_runs_of(pair.journal, id)[before].end_ns != 0; });
  // The zombie comes back as a worker like any other, and gets its share.
  pair.wait_shared({32, 32});
  CHECK(look(pair.bucket, thing(id)).revision == revision);
  CHECK(stored(pair.bucket, thing(id))["value"] == "new");
  CHECK(pair.first->process().running());
  pair.second->kill();
  pair.settle("after", 1);
  CHECK(pair.who_ran("after") == pair.first->pid());
}

TEST_CASE("lanes: a zombie that worked on the very token of the next owner is fenced",
          "[lanes][fault][integration]") {
  Pair pair;
  const std::string id = pair.one_of(*pair.first);
  const std::size_t before = read_runs_of(pair.journal, id).size();
  const std::string go = (pair.files / "go").string();
  pair.bucket.notify(thing(id), json{{"value", 1}, {"hold", go}});
  wait_for("the run of the first worker",
           [&] { return read_runs_of(pair.journal, id).size() == before + 1; });
  pair.first->process().kill(SIGSTOP);
  wait_for("the second worker to run the same token",
           [&] { return read_runs_of(pair.journal, id).size() == before + 2; });
  testing::write_file(pair.files / "go", "");
  wait_for("the second worker to settle it",
           [&] { return settled_with(pair.bucket, thing(id), 1); });
  const Matter after = look(pair.bucket, thing(id));
  CHECK(stored(pair.bucket, thing(id))["by"] == pair.second->pid());

  pair.first->process().kill(SIGCONT);
  wait_for("the run of the zombie to end",
           [&] { return read_runs_of(pair.journal, id)[before].end_ns != 0; });
  pair.wait_shared({32, 32});
  CHECK(look(pair.bucket, thing(id)).revision == after.revision);
  CHECK(stored(pair.bucket, thing(id))["by"] == pair.second->pid());
}

TEST_CASE("lanes: a run that hangs keeps none of the others from a worker that comes",
          "[lanes][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  WorkerProcess first(server, journal);
  const std::string go = (files / "go").string();
  bucket.notify(thing("hangs"), json{{"value", 1}, {"hold", go}});
  wait_for("the run", [&] { return read_runs_of(journal, "hangs").size() == 1; });
  WorkerProcess second(server, journal);
  wait_for("the lanes to be shared", [&] {
    return shares(bucket) == std::vector<std::size_t>{32, 32};
  });
  testing::write_file(files / "go", "");
  wait_for("it to settle", [&] { return settled_with(bucket, thing("hangs"), 1); });
  CHECK(read_runs_of(journal, "hangs").size() == 1);
}

TEST_CASE("lanes: work in flight while workers come and go neither overlaps nor is lost",
          "[lanes][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  std::vector<std::unique_ptr<WorkerProcess>> workers;
  int value = 0;
  const auto notify_all = [&] {
    ++value;
    for (int i = 0; i < 40; ++i) {
      bucket.notify(thing(std::to_string(i)), json{{"value", value}});
    }
  };
  for (int i = 0; i < 4; ++i) {
    workers.push_back(std::make_unique<WorkerProcess>(server, journal));
    notify_all();
  }
  for (int i = 0; i < 3; ++i) {
    notify_all();
    workers.front()->process().kill(i == 1 ? SIGKILL : SIGTERM);
    REQUIRE(workers.front()->process().wait(15s).has_value());
    workers.erase(workers.begin());
    notify_all();
  }
  wait_for(
      "all to settle",
      [&] {
        return std::ranges::all_of(std::views::iota(0, 40), [&](int i) {
          return settled_with(bucket, thing(std::to_string(i)), value);
        });
      },
      20s);
  for (int i = 0; i < 40; ++i) {
    std::vector<Run> runs = read_runs_of(journal, std::to_string(i));
    std::ranges::sort(runs, {}, &Run::start_ns);
    for (std::size_t k = 1; k < runs.size(); ++k) {
      INFO("identity " << i << " run " << k);
      // A run without an end was cut by the kill.
      if (runs[k - 1].end_ns != 0) CHECK(runs[k].start_ns >= runs[k - 1].end_ns);
      CHECK(runs[k].epoch >= runs[k - 1].epoch);
      CHECK(runs[k].cache["value"] >= runs[k - 1].cache["value"]);
    }
  }
}
