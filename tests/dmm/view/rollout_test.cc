// Goal: a release comes in at its rate and no further than its failures allow.

#include "dmm/view/rollout.h"

#include <catch2/catch.hpp>

using dmm::Rollout;
using dmm::view::RolloutGate;
using namespace std::chrono_literals;

namespace {

// How many are told between `from` and `to`, looked at every 100 ms.
int told_between(RolloutGate& gate, RolloutGate::Clock::time_point from,
                 RolloutGate::Clock::time_point to) {
  int told = 0;
  for (auto now = from; now <= to; now += 100ms) {
    while (gate.open(now)) {
      gate.told("id" + std::to_string(gate.told_count()));
      ++told;
    }
  }
  return told;
}

}  // namespace

TEST_CASE("rollout: without limits everything goes at once", "[view][unit]") {
  const RolloutGate::Clock::time_point start{};
  RolloutGate gate({}, start);
  for (int i = 0; i < 1'000; ++i) {
    REQUIRE(gate.open(start));
    gate.told("a");
  }
  gate.failing("a", true);
  CHECK(gate.open(start));
  CHECK(gate.told_count() == 0);
}

TEST_CASE("rollout: no more go than the rate lets", "[view][unit]") {
  const RolloutGate::Clock::time_point start{};
  RolloutGate gate({.per_minute = 600, .failures_max = 0}, start);
  CHECK(told_between(gate, start, start + 60s) == 601);
  // What was not used up for an hour does not go at once.
  CHECK(told_between(gate, start + 1h, start + 1h) == 10);
  RolloutGate slow({.per_minute = 6, .failures_max = 0}, start);
  CHECK(told_between(slow, start, start + 9s) == 1);
  CHECK(told_between(slow, start + 10s, start + 30s) == 3);
}

TEST_CASE("rollout: it stops when more of those that were told fail than may", "[view][unit]") {
  const RolloutGate::Clock::time_point start{};
  RolloutGate gate({.per_minute = 0, .failures_max = 2}, start);
  for (const char* id : {"a", "b", "c", "d"}) gate.told(id);
  gate.failing("stranger", true);
  gate.failing("a", true);
  gate.failing("a", true);
  gate.failing("b", true);
  gate.failing("b", false);
  gate.failing("c", true);
  CHECK(gate.open(start));
  CHECK(gate.failing_count() == 2);
  gate.failing("d", true);
  CHECK_FALSE(gate.open(start));
  CHECK(gate.stopped().find("3 of the 4") != std::string::npos);
  gate.failing("d", false);
  CHECK_FALSE(gate.open(start));  // a person decides
}
