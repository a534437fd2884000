// Goal: the scheduler runs one thread at a time, on a clock that jumps, in an order that the seed
// decides; and what dmm asks of the system works the same with and without it.

#include "dmm/testing/internal/scheduler.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <string>
#include <vector>

#include "dmm/internal/runtime.h"

namespace dmm::testing {

namespace {

using namespace std::chrono_literals;
using internal::Condition;
using internal::SteadyClock;
using internal::StopCondition;
using internal::SystemClock;
using internal::Thread;

// Threads that wait for each other and for times, and write down who went on.
std::string history_of(std::uint64_t seed) {
  Scheduler scheduler({.seed = seed});
  std::mutex mutex;
  Condition changed;
  std::string history;
  std::vector<Thread> threads;
  for (char name = 'a'; name < 'f'; ++name) {
    threads.emplace_back([&, name] {
      for (int i = 0; i < 5; ++i) {
        internal::yield();
        std::unique_lock lock(mutex);
        history += name;
        changed.notify_one();
        changed.wait_for(lock, std::chrono::milliseconds(internal::random_seed() % 10));
      }
    });
  }
  for (Thread& thread : threads) thread.join();
  return history + std::to_string(scheduler.elapsed().count());
}

// What holds on both sides of the seam.
void check_seam() {
  std::mutex mutex;
  Condition changed;
  StopCondition stoppable;
  int given = 0;
  Thread giver([&] {
    const std::lock_guard lock(mutex);
    given = 7;
    changed.notify_all();
  });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return given == 7; });
    CHECK(changed.wait_for(lock, 1ms, [] { return false; }) == false);
    CHECK(changed.wait_until(lock, SteadyClock::now() - 1s) == std::cv_status::timeout);
  }
  giver.join();
  CHECK_FALSE(giver.joinable());
  std::atomic<bool> stopped = false;
  {
    const Thread waiting([&](const std::stop_token& stop) {
      std::unique_lock lock(mutex);
      CHECK_FALSE(stoppable.wait(lock, stop, [] { return false; }));
      stopped = true;
    });
  }
  CHECK(stopped);
  internal::Async<int> answer([] { return 3; });
  CHECK(answer.valid());
  CHECK(answer.get() == 3);
  CHECK_FALSE(answer.valid());
  internal::Async<int> failure([]() -> int { throw std::runtime_error("no"); });
  CHECK_THROWS_AS(failure.get(), std::runtime_error);
  internal::Countdown countdown(2);
  const Thread first([&] { countdown.count_down(); });
  const Thread second([&] { countdown.count_down(); });
  countdown.wait();
}

}  // namespace

TEST_CASE("scheduler: the same seed is the same order and another one is not",
          "[simulation][unit]") {
  CHECK(history_of(1) == history_of(1));
  CHECK(history_of(2) == history_of(2));
  CHECK(history_of(1) != history_of(2));
}

TEST_CASE("scheduler: waits and threads work with it and without", "[simulation][unit]") {
  check_seam();
  {
    const Scheduler scheduler({.seed = 5});
    check_seam();
  }
  check_seam();
}

TEST_CASE("scheduler: time passes when all wait and then at once", "[simulation][unit]") {
  const auto real = std::chrono::steady_clock::now();
  Scheduler scheduler({.seed = 3});
  const auto before = SystemClock::now();
  bool done = false;
  const Thread sleeper([&] {
    std::mutex mutex;
    Condition nobody;
    std::unique_lock lock(mutex);
    nobody.wait_for(lock, 10min);
    done = true;
  });
  scheduler.pass(9min);
  CHECK_FALSE(done);
  scheduler.pass(2min);
  CHECK(done);
  CHECK(SystemClock::now() - before >= 11min);
  CHECK(std::chrono::steady_clock::now() - real < 5s);
}

TEST_CASE("scheduler: a group can be stopped and its clock moved", "[simulation][unit]") {
  Scheduler scheduler({.seed = 4});
  int turns = 0;
  const auto here = SystemClock::now();
  auto there = here;
  scheduler.set_group(1);
  const Thread worker([&](const std::stop_token& stop) {
    std::mutex mutex;
    StopCondition nobody;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      ++turns;
      there = SystemClock::now();
      nobody.wait_for(lock, stop, 10ms, [] { return false; });
    }
  });
  scheduler.set_group(0);
  scheduler.pass(1s);
  const int before = turns;
  CHECK(before > 50);
  scheduler.freeze(1, 5s);
  scheduler.pass(4s);
  CHECK(turns <= before + 1);
  scheduler.shift_clock(1, -1h);
  scheduler.pass(2s);
  CHECK(turns > before + 10);
  CHECK(there < here - 59min);
}

TEST_CASE("scheduler: crash points are heard of", "[simulation][unit]") {
  internal::crash_point("nobody hears of it");
  Scheduler scheduler({.seed = 6});
  std::string heard;
  scheduler.at_crash_points([&](Scheduler::Group group, std::string_view name) {
    heard += std::to_string(group) + " " + std::string(name);
  });
  internal::crash_point("stored an entry");
  CHECK(heard == "0 stored an entry");
}

}  // namespace dmm::testing
