#include "dmm/worker/lease.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <stop_token>
#include <thread>

#include "dmm/testing/wait_for.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::Call;
using testing::wait_for;

TEST_CASE("lease: two beats in a row that are answered late do not cost it", "[lease][unit]") {
  // A beat holds for 3 s from when it was sent. Were the second one sent a pause behind the first
  // one's answer, it would have 0.6 s left.
  constexpr LeaseTiming kTiming{.ttl = 3400ms, .beat = 1200ms, .margin = 400ms, .poll = 30ms};
  testing::MemoryNamespace space;
  std::atomic<int> losses = 0;
  Lease lease(
      space.streams, "observe.speaker", [&] { ++losses; }, kTiming);
  REQUIRE(lease.acquire(std::stop_token()));
  for (int beat = 1; beat <= 2; ++beat) {
    space.leases->hold(Call::publish);
    wait_for("a beat", [&] { return space.leases->held(Call::publish) == 1; });
    std::this_thread::sleep_for(kTiming.beat);
    CHECK(losses == 0);
    CHECK(lease.held());
    space.leases->let_go(Call::publish);
  }
}

}  // namespace dmm::worker
