// Goal: the checkers find each violation in histories written by hand, and invent none.
// Method: a small history that is as promised, and one change to it for each violation.

#include "tests/nemesis/check.h"

#include <catch2/catch.hpp>

#include <cstdint>

using namespace dmm::nemesis;

namespace {

constexpr std::size_t kConcurrency = 16;

Nanoseconds at(double seconds) {
  return static_cast<Nanoseconds>(seconds * kSecond);
}

Run run(std::uint32_t identity, std::uint64_t news, std::uint32_t life, std::uint64_t epoch,
        double begin, double end, bool succeeded = true) {
  return {identity, news, life, epoch, at(begin), end > 0 ? at(end) : 0, succeeded};
}

/// Another identity in the lane of `identity`.
std::uint32_t neighbour_of(std::uint32_t identity) {
  std::uint32_t other = identity + 1;
  while (lane_of(other) != lane_of(identity)) ++other;
  return other;
}

/// Worker 0 dies in the run of news 2 of identity 7, worker 1 takes over.
History a_good_one() {
  History history;
  history.lives = {{"worker 0", at(0), at(10.5)}, {"worker 1", at(0), 0}};
  history.notified = {{at(1), 7, 1}, {at(10), 7, 2}, {at(11), 8, 1}};
  history.runs = {run(7, 1, 0, 1, 1.1, 1.2), run(7, 2, 0, 1, 10.1, 0, false),
                  run(7, 2, 1, 2, 14, 14.2), run(8, 1, 1, 2, 14, 14.1)};
  history.entries = {
      {1, 7, 1, 1, at(1.3)}, {2, 7, 1, 2, at(14)}, {3, 7, 2, 2, at(14.3)}, {4, 8, 1, 2, at(14.2)}};
  put_in_order(history);
  return history;
}

/// Worker 0 is stopped in the run of identity 7 from 2.5 to 8; worker 1 takes over at 5.6.
History a_stopped_one() {
  History history;
  history.lives = {{"worker 0", at(0), 0, {{at(2.5), at(8)}}}, {"worker 1", at(0), 0}};
  history.notified = {{at(1), 7, 1}};
  history.runs = {run(7, 1, 0, 1, 2, 8.1, false), run(7, 1, 1, 2, 5.6, 8.05)};
  return history;
}

}  // namespace

TEST_CASE("history: a run that was cut off ends with its worker", "[nemesis][unit]") {
  const History history = a_good_one();
  CHECK(history.runs[1].end == at(10.5));
}

TEST_CASE("check: nothing is found where all is as promised", "[nemesis][unit]") {
  const History history = a_good_one();
  CHECK(find_lost(history).count == 0);
  CHECK(find_behind(history).count == 0);
  CHECK(find_overlaps(history).count == 0);
  CHECK(find_zombies(history, kConcurrency).count == 0);
  CHECK(find_stale_writes(history).count == 0);
  CHECK(find_lost(History()).count == 0);
}

TEST_CASE("check: news that no run succeeded on are lost", "[nemesis][unit]") {
  History history = a_good_one();
  SECTION("no run at all") {
    history.notified.push_back({at(20), 9, 1});
  }
  SECTION("only runs on older news") {
    history.notified.push_back({at(20), 7, 3});
  }
  SECTION("only a run that failed") {
    history.notified.push_back({at(20), 7, 3});
    history.runs.push_back(run(7, 3, 1, 2, 21, 22, false));
  }
  SECTION("only a run that was cut off") {
    history.runs[2].succeeded = false;
  }
  const Findings lost = find_lost(history);
  CHECK(lost.count == 1);
  REQUIRE(lost.examples.size() == 1);
  INFO(lost.examples[0]);
  CHECK(lost.examples[0].starts_with("news "));
}

TEST_CASE("check: news that were replaced by newer ones are not lost", "[nemesis][unit]") {
  History history = a_good_one();
  history.notified.push_back({at(20), 7, 3});
  history.notified.push_back({at(20), 7, 4});
  history.runs.push_back(run(7, 4, 1, 2, 20, 21));
  CHECK(find_lost(history).count == 0);
}

TEST_CASE("check: an entry of older news than were acknowledged is behind", "[nemesis][unit]") {
  History history = a_good_one();
  SECTION("it is of older news") {
    history.entries.erase(history.entries.begin() + 2);
  }
  SECTION("there is none") {
    history.entries.pop_back();
  }
  CHECK(find_behind(history).count == 1);
}

TEST_CASE("check: two runs of one identity at one time overlap", "[nemesis][unit]") {
  History history = a_good_one();
  SECTION("in two workers") {
    history.runs.push_back(run(7, 2, 0, 1, 10.4, 0, false));
    history.runs.push_back(run(7, 2, 1, 2, 10.45, 11));
  }
  SECTION("in one worker") {
    history.runs.push_back(run(8, 1, 1, 2, 14.05, 14.2));
  }
  SECTION("one within the other") {
    history.runs.push_back(run(8, 1, 1, 3, 14.02, 14.03));
  }
  put_in_order(history);
  const std::size_t found = find_overlaps(history).count;
  CHECK(found >= 1);
}

TEST_CASE("check: one long run overlaps with each that it meets", "[nemesis][unit]") {
  History history = a_good_one();
  history.runs = {run(7, 1, 0, 1, 1, 9), run(7, 1, 1, 2, 2, 3), run(7, 1, 1, 2, 4, 5)};
  CHECK(find_overlaps(history).count == 2);
}

TEST_CASE("check: runs that follow each other do not overlap", "[nemesis][unit]") {
  History history = a_good_one();
  history.runs.push_back(run(7, 2, 1, 2, 14.2, 14.4));
  history.runs.push_back(run(9, 2, 1, 2, 14.2, 14.4));
  CHECK(find_overlaps(history).count == 0);
}

TEST_CASE("check: a run that was stopped past its lease may meet its successor",
          "[nemesis][unit]") {
  History history = a_stopped_one();
  CHECK(find_overlaps(history).count == 0);
  SECTION("unless the pause was too short to lose the lease") {
    history.lives[0].pauses[0] = {at(2.5), at(3)};
    CHECK(find_overlaps(history).count == 1);
  }
  SECTION("unless the successor had begun before") {
    history.runs[1].begin = at(2.2);
    CHECK(find_overlaps(history).count == 1);
  }
  SECTION("unless it is the later epoch that was stopped") {
    std::swap(history.runs[0].epoch, history.runs[1].epoch);
    CHECK(find_overlaps(history).count == 1);
  }
  SECTION("unless both are of one epoch") {
    history.runs[1].epoch = 1;
    CHECK(find_overlaps(history).count == 1);
  }
  SECTION("also when it is killed while it is stopped") {
    history.lives[0].pauses[0].end = 0;
    history.lives[0].end = at(7);
    history.runs[0].end = at(7);
    CHECK(find_overlaps(history).count == 0);
  }
}

TEST_CASE("check: a run of an earlier epoch must not begin after one of a later epoch",
          "[nemesis][unit]") {
  History history = a_good_one();
  SECTION("of the same identity") {
    history.runs.push_back(run(7, 2, 0, 1, 15, 15.1));
  }
  SECTION("of another identity of the lane") {
    history.runs.push_back(run(neighbour_of(7), 1, 0, 1, 15, 15.1));
  }
  CHECK(find_zombies(history, kConcurrency).count == 1);
}

TEST_CASE("check: another lane may have another epoch", "[nemesis][unit]") {
  History history = a_good_one();
  std::uint32_t other = 8;
  while (lane_of(other) == lane_of(7) || lane_of(other) == lane_of(8)) ++other;
  history.runs.push_back(run(other, 1, 0, 1, 15, 15.1));
  CHECK(find_zombies(history, kConcurrency).count == 0);
}

TEST_CASE("check: after a pause as many runs may reach their first line as can be under way",
          "[nemesis][unit]") {
  History history = a_stopped_one();
  const auto begin_late = [&](std::uint32_t count, double when) {
    std::uint32_t identity = 7;
    for (std::uint32_t i = 0; i < count; ++i) {
      identity = neighbour_of(identity);
      history.runs.push_back(run(identity, 1, 0, 1, when, when + 0.01, false));
    }
    put_in_order(history);
  };
  SECTION("that many") {
    begin_late(kConcurrency, 8.01);
    CHECK(find_zombies(history, kConcurrency).count == 0);
  }
  SECTION("one more") {
    begin_late(kConcurrency + 1, 8.01);
    CHECK(find_zombies(history, kConcurrency).count == 1);
  }
  SECTION("and none later") {
    begin_late(1, 8.5);
    CHECK(find_zombies(history, kConcurrency).count == 1);
  }
}

TEST_CASE("check: an entry that goes back is a stale write", "[nemesis][unit]") {
  History history = a_good_one();
  SECTION("to older news") {
    history.entries.push_back({5, 7, 1, 2, at(15)});
  }
  SECTION("to a writer of an earlier epoch") {
    history.entries.push_back({5, 7, 2, 1, at(15)});
  }
  SECTION("to one that names no epoch") {
    history.entries.push_back({5, 7, 3, 0, at(15)});
  }
  CHECK(find_stale_writes(history).count == 1);
}

TEST_CASE("check: the examples are a few of many", "[nemesis][unit]") {
  History history = a_good_one();
  for (std::uint64_t i = 0; i < 100; ++i) history.notified.push_back({at(20), 9, i + 1});
  const Findings lost = find_lost(history);
  CHECK(lost.count == 100);
  CHECK(lost.examples.size() == 5);
}
