// Goal: the time until work goes on is that of the lane that waited longest, counted from the last
// fault, and idleness without work is none.

#include <catch2/catch.hpp>

#include "tests/nemesis/check.h"

using namespace dmm::nemesis;

namespace {

Nanoseconds at(double seconds) {
  return static_cast<Nanoseconds>(seconds * kSecond);
}

/// News of an identity every 100 ms, each run at once, but for those between `from` and `to`: their
/// newest is run at `to`.
void work_with_gap(History& history, std::uint32_t identity, double from, double to) {
  std::uint64_t news = 0;
  for (int tenth = 10; tenth < 200; ++tenth) {
    const double time = tenth / 10.0;
    history.notified.push_back({at(time), identity, ++news});
    if (time >= from && time < to) continue;
    const double begin = time + 0.001;
    history.runs.push_back({identity, news, 0, 1, at(begin), at(begin + 0.01), true});
  }
}

History working(double from, double to) {
  History history;
  history.lives = {{"worker 0", 0, 0}};
  work_with_gap(history, 7, from, to);
  return history;
}

}  // namespace

TEST_CASE("recovery: it lasts from the fault to the next run", "[nemesis][unit]") {
  History history = working(5, 8);
  history.volleys = {{at(4.95), at(4.95)}};
  put_in_order(history);
  REQUIRE(recoveries(history).size() == 1);
  CHECK(recoveries(history)[0] == Approx(at(3.0)).margin(at(0.06)));
}

TEST_CASE("recovery: it is counted from the last fault of a volley", "[nemesis][unit]") {
  History history = working(5, 8);
  history.volleys = {{at(4.95), at(7)}};
  put_in_order(history);
  CHECK(recoveries(history)[0] == Approx(at(1.0)).margin(at(0.06)));
}

TEST_CASE("recovery: a fault that is noticed later is charged all the same", "[nemesis][unit]") {
  History history = working(7, 10);
  history.volleys = {{at(4.95), at(4.95)}, {at(15), at(15)}};
  put_in_order(history);
  // Work went on until 6.9; only then it stood still.
  CHECK(recoveries(history)[0] == Approx(at(3.0)).margin(at(0.11)));
  CHECK(recoveries(history)[1] < at(0.11));
}

TEST_CASE("recovery: the lane that waits longest counts", "[nemesis][unit]") {
  History history = working(5, 6);
  std::uint32_t other = 8;
  while (lane_of(other) == lane_of(7)) ++other;
  work_with_gap(history, other, 5, 9);
  history.volleys = {{at(5), at(5)}};
  put_in_order(history);
  CHECK(recoveries(history)[0] == Approx(at(4.0)).margin(at(0.11)));
}

TEST_CASE("recovery: nobody waits where nothing is to be done", "[nemesis][unit]") {
  History history = working(0, 0);
  std::erase_if(history.notified,
                [](const Notified& one) { return one.at > at(5) && one.at < at(9); });
  std::erase_if(history.runs,
                [](const Run& run) { return run.begin > at(5.05) && run.begin < at(9); });
  history.volleys = {{at(5), at(5)}};
  put_in_order(history);
  CHECK(recoveries(history)[0] < at(0.11));
}

TEST_CASE("recovery: runs that fail do not end the need for work", "[nemesis][unit]") {
  History history;
  history.lives = {{"worker 0", 0, 0}};
  history.notified = {{at(1), 7, 1}};
  history.runs = {{7, 1, 0, 1, at(1.1), at(1.2), false}, {7, 1, 0, 1, at(4), at(4.1), true}};
  history.volleys = {{at(1.15), at(1.15)}};
  put_in_order(history);
  CHECK(recoveries(history)[0] == at(2.85));
}
