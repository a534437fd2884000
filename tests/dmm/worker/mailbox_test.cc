// The mailbox lets posters do the owner's work. Method: real threads, and conditions that must
// become true; a lost wake-up shows as a deadline that passes.

#include "dmm/worker/mailbox.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using dmm::worker::Mailbox;
using namespace std::chrono_literals;

TEST_CASE("mailbox: messages of many posters run one at a time and none is lost",
          "[worker][unit]") {
  std::atomic<int> at_work = 0;
  std::atomic<int> most = 0;
  int done = 0;  // guarded by what the mailbox promises
  Mailbox mailbox([] { return Mailbox::Clock::now() + 1s; });
  constexpr int kPosters = 4;
  constexpr int kEach = 5'000;
  std::vector<std::thread> posters;
  for (int i = 0; i < kPosters; ++i) {
    posters.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        mailbox.post([&] {
          most = std::max(most.load(), ++at_work);
          ++done;
          --at_work;
        });
      }
    });
  }
  const auto give_up = Mailbox::Clock::now() + 30s;
  while (done < kPosters * kEach && Mailbox::Clock::now() < give_up) {
    mailbox.run_until(Mailbox::Clock::now() + 1ms);
  }
  for (std::thread& poster : posters) poster.join();
  mailbox.run_until(Mailbox::Clock::now());
  CHECK(done == kPosters * kEach);
  CHECK(most == 1);
}

TEST_CASE("mailbox: the owner comes back though a guest was at work at its deadline",
          "[worker][unit]") {
  Mailbox mailbox([] { return Mailbox::Clock::now() + 1h; });
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::thread owner([&] {
    while (!stop) {
      mailbox.run_until(Mailbox::Clock::now() + 5ms);
      ++turns;
    }
  });
  // A message that its poster runs itself, and that lasts longer than the owner's wait.
  std::atomic<bool> was_guest = false;
  const auto give_up = Mailbox::Clock::now() + 20s;
  while (!was_guest && Mailbox::Clock::now() < give_up) {
    mailbox.post([&, self = std::this_thread::get_id()] {
      if (std::this_thread::get_id() != self) return;
      was_guest = true;
      const auto end = Mailbox::Clock::now() + 50ms;
      while (Mailbox::Clock::now() < end) std::this_thread::yield();
    });
    std::this_thread::yield();
  }
  REQUIRE(was_guest);
  const int before = turns;
  while (turns < before + 3 && Mailbox::Clock::now() < give_up) std::this_thread::yield();
  CHECK(turns >= before + 3);
  stop = true;
  mailbox.wake();
  owner.join();
}
