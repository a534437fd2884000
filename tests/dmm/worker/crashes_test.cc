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
                   const std::string& phase = {}, int named = 0) {
    const Sequence token = work->put(streams.names.token_subject({"player", id}), "{}");
    internal::Status left;
    left.phase = !phase.empty() ? phase : crashes < limits::crashes_max ? "failing" : "parked";
    left.error_code = code::worker_crashed.id;
    left.created = testing::kCreated;
    left.token = token.value;
    left.crashes = crashes;
    left.named = named;
    left.charged = left.phase == "failing";
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
  // The status of an identity, empty if there is none.
  internal::Status left(const std::string& id) {
    const auto found = status->look(streams.names.status_subject(key_of({"player", id})));
    if (!found) return {};
    return internal::parse_status<internal::Status>(*found).value_or(internal::Status());
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
  worker.crashed("culprit", limits::crashes_max - 1, {}, {}, limits::crashes_max - 2);
  worker.said(fmt::format("SIGSEGV {} player.culprit\n", worker.streams.names.ns()));
  worker.start({.backoff_first = 1ms, .backoff_max = 1ms});
  wait_for("all three beside each other", [&] { return worker.inside == 3; });
  // This run was counted on top, and that of the worker before taken off.
  CHECK(worker.left("here").crashes == limits::crashes_shared + 1);
  CHECK(worker.left("culprit").crashes == limits::crashes_max);
  CHECK(worker.left("culprit").named == limits::crashes_max - 1);
}

TEST_CASE("crashes: the run that a worker named is parked with its signal at the fifth time",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.crashed("culprit", limits::crashes_max, {}, "failing");
  worker.said(fmt::format("SIGABRT {} player.culprit\n", worker.streams.names.ns()));
  worker.start();
  wait_for("the parking", [&] { return worker.left("culprit").phase == "parked"; });
  CHECK(worker.left("culprit").error == "5 workers ended while they ran it, the last by SIGABRT");
  CHECK(worker.runs() == 0);
}

TEST_CASE("crashes: the run that a worker named waits while others begin", "[crashes][unit]") {
  AfterCrashes worker;
  worker.crashed("culprit", 1);
  worker.put_good(1);
  worker.said(fmt::format("SIGSEGV {} player.culprit\n", worker.streams.names.ns()));
  worker.start({.backoff_first = 400ms});
  wait_for("both", [&] { return worker.waiting() == 0; });
  REQUIRE(worker.runs() == 2);
  CHECK(worker.run(0).id == "0");
}

TEST_CASE("crashes: news do not beat the wait behind an end of a worker, nor forget it",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  worker.crashed("culprit", 2, {}, {}, 1);
  worker.said(fmt::format("SIGSEGV {} player.culprit\n", worker.streams.names.ns()));
  worker.start({.backoff_first = 500ms});
  wait_for("the blame", [&] { return worker.left("culprit").named == 2; });
  const auto due = worker.left("culprit").next_retry_at;
  worker.work->put(worker.streams.names.token_subject({"player", "culprit"}), R"({"n":2})");
  wait_for("the run", [&] { return worker.inside == 1; });
  CHECK(internal::SystemClock::now().time_since_epoch() >= std::chrono::milliseconds(due));
  CHECK(worker.left("culprit").crashes == 3);  // this run is counted in advance
  CHECK(worker.left("culprit").named == 2);
}

TEST_CASE("crashes: news that wait for their turn do not forget an end of a worker either",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  worker.put_good(1);
  worker.crashed("culprit", 2, {}, {}, 1);
  worker.said(fmt::format("SIGSEGV {} player.culprit\n", worker.streams.names.ns()));
  std::atomic<bool> kept = false;
  worker.then = [&](Context& context, nlohmann::json&) {
    const internal::Status now = worker.left("culprit");
    if (context.identity().id == "culprit") kept = now.crashes == 3 && now.named == 2;
    return Outcome::done();
  };
  worker.start({.concurrency = 1, .backoff_first = 100ms, .pause_at_failing = 99});
  wait_for("the other one", [&] { return worker.inside == 1; });
  wait_for("the turn to come", [&] { return worker.loop->stats().ready == 1; });
  worker.work->put(worker.streams.names.token_subject({"player", "culprit"}), R"({"n":2})");
  wait_for("the news", [&] { return worker.loop->stats().coalesced == 1; });
  worker.release();
  wait_for("both", [&] { return worker.waiting() == 0; });
  CHECK(kept);
}

TEST_CASE("crashes: who was named is counted on whatever news it has by now", "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  worker.crashed("culprit", 3);
  worker.work->put(worker.streams.names.token_subject({"player", "culprit"}), R"({"n":2})");
  worker.said(fmt::format("SIGSEGV {} player.culprit\n", worker.streams.names.ns()));
  worker.start();
  wait_for("the run", [&] { return worker.inside == 1; });
  CHECK(worker.left("culprit").crashes == 4);
}

TEST_CASE("crashes: words about another namespace are put down to nobody", "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  for (const char* const id : {"first", "second"}) worker.crashed(id, limits::crashes_shared + 1);
  worker.said("SIGSEGV elsewhere player.first\n");
  worker.start();
  // Somebody else's run ended that process: either of them did no harm.
  wait_for("both beside each other", [&] { return worker.inside == 2; });
  CHECK(worker.left("first").crashes == limits::crashes_shared + 1);
}

TEST_CASE("crashes: a run that is overdue stays charged with its worker's end", "[crashes][unit]") {
  AfterCrashes worker;
  worker.holding = true;
  worker.crashed("late", 1);
  worker.said("");
  worker.start({.timeout = 20ms});
  wait_for("it to be overdue",
           [&] { return worker.left("late").error_code == code::materialize_timed_out.id; });
  CHECK(worker.left("late").crashes == 2);
  CHECK(worker.left("late").charged);
}

TEST_CASE("crashes: good news run although those before them crashed five times",
          "[crashes][unit]") {
  AfterCrashes worker;
  worker.control->pause({"player", {}}, "", "");
  worker.crashed("mended", limits::crashes_max, {}, "failing");
  worker.said("");
  worker.start();
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  wait_for("the token", [&] { return worker.loop->stats().tokens == 1; });
  worker.work->put(worker.streams.names.token_subject({"player", "mended"}), R"({"n":2})");
  wait_for("the news", [&] { return worker.loop->stats().tokens == 2; });
  worker.control->resume({"player", {}});
  wait_for("the run", [&] { return worker.runs() == 1 && worker.waiting() == 0; });
}

TEST_CASE(
    "crashes: what happened before somebody resumed the type does not count for who runs then",
    "[crashes][unit]") {
  AfterCrashes worker;
  worker.said("");
  worker.crashed("a", 4);
  worker.control->pause({"player", {}}, "a bad release", "test");
  worker.control->resume({"player", {}});
  worker.holding = true;
  worker.start();
  wait_for("its run", [&] { return worker.runs() == 1; });
  CHECK(worker.left("a").crashes == 1);  // the end that brought the lane here, and no other
  worker.release();
  wait_for("its end", [&] { return worker.waiting() == 0; });
}

TEST_CASE("crashes: each end that workers put down to a run counts", "[crashes][unit]") {
  AfterCrashes worker;
  for (int i = 0; i < 20; ++i) worker.crashed("named" + std::to_string(i), 1, {}, {}, 1);
  worker.put_good(30);
  worker.start({.pause_at_failing = 30});
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
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
