// Goal: rows that vanish are told as removed only while that is no likely mistake.

#include "dmm/view/removals.h"

#include <catch2/catch.hpp>

#include "dmm/limits.h"

namespace dmm::view {

namespace {

using namespace std::chrono_literals;

std::vector<std::string> ids(std::size_t from, std::size_t to) {
  std::vector<std::string> all;
  for (std::size_t i = from; i < to; ++i) all.push_back(std::to_string(i));
  return all;
}

const Removals::Clock::time_point kBegin{1h};

}  // namespace

TEST_CASE("removals: a hundred may go unasked and one more may not", "[view][unit]") {
  Removals removals(limits::removals_free);
  CHECK(removals.propose(ids(0, 100), 0, kBegin).size() == 100);
  CHECK(removals.propose(ids(100, 101), 0, kBegin).empty());
  CHECK(removals.holds("100"));
  CHECK(removals.reason() == "101 of 101 rows would be removed within a minute, more than 100");
}

TEST_CASE("removals: of many rows five in a hundred may go", "[view][unit]") {
  Removals removals(limits::removals_free);
  CHECK(removals.propose(ids(0, 500), 9'500, kBegin).size() == 500);
  Removals others(limits::removals_free);
  CHECK(others.propose(ids(0, 501), 9'499, kBegin).empty());
  CHECK(others.held().size() == 501);
}

TEST_CASE("removals: many small steps are held as one large one is", "[view][unit]") {
  Removals removals(limits::removals_free);
  std::size_t gone = 0;
  for (std::size_t i = 0; i < 50; ++i) {
    gone += removals.propose(ids(10 * i, 10 * i + 10), 500 - 10 * i, kBegin + i * 1s).size();
  }
  CHECK(gone == 100);
  CHECK(removals.held().size() == 400);
}

TEST_CASE("removals: after a minute others may go", "[view][unit]") {
  Removals removals(limits::removals_free);
  CHECK(removals.propose(ids(0, 100), 0, kBegin).size() == 100);
  CHECK(removals.propose(ids(100, 200), 0, kBegin + limits::removals_window + 1s).size() == 100);
}

TEST_CASE("removals: a doubt holds every one until it is approved", "[view][unit]") {
  Removals removals(limits::removals_free);
  removals.doubt("the stream is another one");
  CHECK(removals.in_doubt());
  CHECK(removals.propose({"a"}, 1'000, kBegin).empty());
  CHECK(removals.reason() == "the stream is another one");
  CHECK(removals.approve() == std::vector<std::string>{"a"});
  CHECK_FALSE(removals.in_doubt());
  CHECK(removals.reason().empty());
  CHECK(removals.propose({"b"}, 1'000, kBegin) == std::vector<std::string>{"b"});
}

TEST_CASE("removals: what is held draws others in and rows that come back are let out",
          "[view][unit]") {
  Removals removals(0);
  CHECK(removals.propose({"a", "b"}, 10, kBegin).empty());
  CHECK(removals.propose({"c"}, 1'000, kBegin).empty());
  removals.withdraw("a");
  CHECK_FALSE(removals.holds("a"));
  CHECK(removals.approve() == std::vector<std::string>{"b", "c"});
}

}  // namespace dmm::view
