// The mailbox lets posters do the owner's work. Method: real threads, and conditions that must become
// true; a lost wake-up shows as a deadline that passes.

#include "dmm/worker/mailbox.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <future>
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

TEST_CASE("mailbox: the owner comes back at its deadline though a guest was at work then",
          "[worker][unit]") {
  Mailbox mailbox([] { return Mailbox::Clock::now() + 1h; });
  std::promise<void> guest_works;
  std::promise<void> owner_is_late;
  std::future<void> late = owner_is_late.get_future();
  std::thread guest([&] {
    // Until the owner waits nobody can be its guest: then the message is run by the owner itself.
    for (std::atomic<bool> ran = false; !ran;) {
      mailbox.post([&, self = std::this_thread::get_id()] {
        if (std::this_thread::get_id() != self) return;
        ran = true;
        guest_works.set_value();
        late.wait();
      });
      std::this_thread::yield();
    }
  });
  std::thread timer([&] {
    guest_works.get_future().wait();
    std::this_thread::sleep_until(Mailbox::Clock::now() + 100ms);
    owner_is_late.set_value();
  });
  auto owner = std::async(std::launch::async, [&] {
    for (int i = 0; i < 20; ++i) mailbox.run_until(Mailbox::Clock::now() + 20ms);
  });
  CHECK(owner.wait_for(20s) == std::future_status::ready);
  if (owner.wait_for(0s) != std::future_status::ready) mailbox.wake();
  guest.join();
  timer.join();
}
