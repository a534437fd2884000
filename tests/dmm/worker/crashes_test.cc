// Goal: a type of which every run ends its worker pauses itself as one does of which every run
// fails, and a few identities that do so pause nothing.
// Method: statuses as workers left them that are no more; the next worker finds them.

#include <catch2/catch.hpp>

#include <optional>

#include "dmm/internal/control_store.h"
#include "dmm/testing/temporary_directory.h"
#include "tests/dmm/worker/run_loop_scene.h"

namespace dmm::worker {

namespace {

// A namespace in which workers ended, and the next worker.
struct AfterCrashes : Worker {
  const testing::TemporaryDirectory directory;
  std::unique_ptr<Control> control = internal::make_control(streams);

  // An identity that this many workers ran when they ended.
  Sequence crashed(const std::string& id, int crashes,
                   std::optional<std::chrono::system_clock::time_point> at = {},
                   const std::string& phase = {}) {
    const Sequence token = work->put(streams.names.token_subject({"player", id}), "{}");
    internal::Status left;
    left.phase = !phase.empty() ? phase : crashes < limits::crashes_max ? "failing" : "parked";
    left.error_code = code::worker_crashed.id;
    left.created = testing::kCreated;
    left.token = token.value;
    left.crashes = crashes;
    status->put(streams.names.status_subject(key_of({"player", id})),
                dump_json(nlohmann::json(left)), {}, at);
    return token;
  }
  // What the holder of all lanes left in the run directory when it ended, and their leases.
  void said(const std::string& words) {
    testing::write_file(directory / "gone", boot() + "\n" + words);
    for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
      leases->put(streams.names.lane_subject("player", lane, Epoch{1}), to_text({"gone"}));
    }
    streams.life_locks = std::make_shared<LifeLocks>(directory.path().string());
  }
  static std::string boot() {
    std::string text = testing::read_file("/proc/sys/kernel/random/boot_id");
    return text.substr(0, text.find('\n'));
  }
  // Twenty ends: three alone for each of six, and two beside others.
  void crashed_often() {
    for (int i = 0; i < 6; ++i) crashed("culprit" + std::to_string(i), limits::crashes_max);
    crashed("beside", 1);
  }
  void put_good(int count) {
    for (int i = 0; i < count; ++i) {
      work->put(streams.names.token_subject({"player", std::to_string(i)}), "{}");
    }
  }
  std::size_t waiting() { return work->subjects(streams.names.token_filter("player")).size(); }
};

}  // namespace

TEST_CASE("crashes: a release of which every run ends its worker pauses the type",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.crashed_often();
  worker.put_good(30);
  worker.start({.pause_at_failing = 30});
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  worker.wait_past(100ms);
  CHECK(worker.runs() == 0);
  const auto pauses = worker.control->pauses();
  REQUIRE(pauses.size() == 1);
  CHECK(pauses[0].scope == PauseScope{"player", {}});
  CHECK(pauses[0].reason ==
        "20 of the last 20 first runs failed, more than 30 %; with 20 of them their worker ended");

  // A good one comes, and somebody resumes the type.
  worker.control->resume({"player", {}});
  wait_for("all but the parked ones", [&] { return worker.waiting() == 6; });
  // Nor does a later worker pause it for what was answered for.
  worker.thread = {};
  worker.put_good(30);
  worker.start({.pause_at_failing = 30});
  wait_for("all but the parked ones", [&] { return worker.waiting() == 6; });
  CHECK(worker.control->pauses().empty());
}

TEST_CASE("crashes: a policy that comes later finds what happened before", "[crashes][unit]") {
  AfterCrashes worker;
  worker.crashed_often();
  worker.holding = true;
  worker.put_good(30);
  worker.start();
  wait_for("runs", [&] { return worker.runs() > 0; });
  CHECK_FALSE(worker.loop->stats().paused);
  worker.control->set_policy("player", {{"pause_at_failing_percent", 30}});
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
}

TEST_CASE("crashes: one culprit and all that ran beside it pause nothing", "[crashes][unit]") {
  AfterCrashes worker;
  worker.crashed("culprit", limits::crashes_max);
  for (int i = 0; i < 64; ++i) {
    worker.crashed("beside" + std::to_string(i), limits::crashes_shared + 1);
  }
  worker.start({.pause_at_failing = 30});
  wait_for("all but the parked one", [&] { return worker.waiting() == 1; });
  CHECK(worker.control->pauses().empty());
}

TEST_CASE("crashes: where a worker said who ended it nobody else is suspected", "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  for (const char* const id : {"here", "there"}) worker.crashed(id, limits::crashes_shared + 1);
  const Sequence culprit = worker.crashed("culprit", limits::crashes_max - 1);
  worker.said(
      fmt::format("SIGSEGV {} player.culprit {}\n", worker.streams.names.ns(), culprit.value));
  worker.start();
  wait_for("all three beside each other", [&] { return worker.inside == 3; });
  const auto crashes_of = [&](const std::string& id) {
    const auto found =
        transport::last(*worker.status, worker.streams.names.status_subject("player." + id));
    return found ? parse_json(found->payload).value().at("crashes").get<int>() : 0;
  };
  CHECK(crashes_of("here") ==
        limits::crashes_shared + 1);  // as before: this run was counted on top
  CHECK(crashes_of("culprit") == limits::crashes_max);
}

TEST_CASE("crashes: the run that a worker named last is parked with its signal at the fifth time",
          "[crashes][unit]") {
  AfterCrashes worker;
  const Sequence token = worker.crashed("culprit", limits::crashes_max, {}, "failing");
  worker.said(
      fmt::format("SIGABRT {} player.culprit {}\n", worker.streams.names.ns(), token.value));
  worker.start();
  const auto text = [&] {
    const auto found =
        transport::last(*worker.status, worker.streams.names.status_subject("player.culprit"));
    return found ? found->payload : std::string();
  };
  wait_for("the parking", [&] { return text().find("\"parked\"") != std::string::npos; });
  CHECK(text().find("5 workers ended while they ran it, the last by SIGABRT") != std::string::npos);
  CHECK(worker.runs() == 0);
}

TEST_CASE("crashes: words about other news or another namespace are put down to nobody",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  const Sequence first = worker.crashed("first", limits::crashes_shared + 1);
  const Sequence second = worker.crashed("second", limits::crashes_shared + 1);
  REQUIRE(second.value != first.value);
  worker.said(fmt::format("SIGSEGV elsewhere player.first {}\n", first.value));
  worker.start();
  // As nobody else's: either of them did no harm.
  wait_for("both beside each other", [&] { return worker.inside == 2; });
}

TEST_CASE("crashes: without last words all that ran are suspected", "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  for (const char* const id : {"here", "there"}) worker.crashed(id, limits::crashes_shared + 1);
  worker.said("");
  worker.start();
  wait_for("one of them", [&] { return worker.inside == 1; });
  worker.wait_past(100ms);
  CHECK(worker.inside == 1);
}

TEST_CASE("crashes: ends of long ago do not add up", "[crashes][unit]") {
  AfterCrashes worker;
  const auto now = std::chrono::system_clock::now();
  for (int i = 0; i < 30; ++i) {
    worker.crashed(std::to_string(i), limits::crashes_max, now - 2h * i);
  }
  worker.crashed("last", 1, now);
  worker.start({.pause_at_failing = 30});
  wait_for("the one that is not parked", [&] { return worker.waiting() == 30; });
  CHECK(worker.control->pauses().empty());
}

}  // namespace dmm::worker
