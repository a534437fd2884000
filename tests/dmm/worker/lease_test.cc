#include "dmm/worker/lease.h"

#include <catch2/catch.hpp>

#include <memory>
#include <stop_token>

#include "dmm/internal/history.h"
#include "dmm/testing/wait_for.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::becomes_true;
using testing::Call;
using testing::wait_for;

TEST_CASE("lease: behind a beat that was answered late the next one is sent at once",
          "[lease][unit]") {
  constexpr LeaseTiming kTiming{.ttl = 60s, .beat = 2s, .margin = 500ms, .poll = 30ms};
  testing::MemoryNamespace space;
  Lease lease(
      space.streams, "observe.speaker", [] {}, kTiming);
  REQUIRE(lease.acquire(std::stop_token()));
  space.leases->hold(Call::publish);
  wait_for("a beat", [&] { return space.leases->held(Call::publish) == 1; });
  wait_for("a pause to pass meanwhile",
           [&] { return lease.left() < kTiming.ttl - kTiming.margin - 2 * kTiming.beat; });
  const Sequence late = space.leases->state().last;
  space.leases->let_go(Call::publish);
  CHECK(becomes_true([&] { return space.leases->state().last > late; }, kTiming.beat / 2));
}

TEST_CASE("lease: who comes just as its stream is lost waits, and counts on from what was lost",
          "[lease][unit]") {
  constexpr LeaseTiming kTiming{.ttl = 1s, .beat = 200ms, .margin = 200ms, .poll = 30ms};
  testing::MemoryNamespace space;
  const auto history = space.streams.history = std::make_shared<internal::History>();
  history->look(space.streams);
  space.leases->lose_history("2025-01-01T00:00:00Z");
  const auto began = std::chrono::steady_clock::now();
  Lease lease(
      space.streams, "observe.speaker", [] {}, kTiming);
  const auto tenure = lease.acquire(std::stop_token());
  REQUIRE(tenure);
  CHECK(history->epoch_floor() > Epoch());
  CHECK(tenure->epoch > history->epoch_floor());
  // Whoever held it may not have heard of the loss yet.
  CHECK(std::chrono::steady_clock::now() - began >= kTiming.ttl);
}

}  // namespace dmm::worker
