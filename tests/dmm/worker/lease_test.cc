#include "dmm/worker/lease.h"

#include <catch2/catch.hpp>

#include <stop_token>

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

}  // namespace dmm::worker
