// Goal: what runs though it is parked, and what is parked though it should not, is found. Method:
// journals written by hand.

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

struct Written : Journal {
  Written() { lives.resize(3); }
  Run& run(std::uint32_t life, Time begin, bool doomed) {
    runs.push_back({.key = "valve.1", .life = life, .epoch = 1, .news = 1, .begin = begin});
    runs.back().end = begin + 10ms;
    runs.back().doomed = doomed;
    runs.back().succeeded = !doomed;
    return runs.back();
  }
  void token(std::uint64_t sequence, Time at) {
    stored.push_back({.where = Stored::Where::work,
                      .key = "valve.1",
                      .at = at,
                      .sequence = sequence,
                      .news = 1});
  }
  void park(std::uint64_t token, std::string_view why, Time at) {
    stored.push_back({.where = Stored::Where::parked,
                      .key = "valve.1",
                      .at = at,
                      .news = token,
                      .payload = std::string(why)});
  }
  std::size_t count() const {
    std::vector<Violation> found;
    check_parking(*this, found);
    return found.size();
  }
};

}  // namespace

TEST_CASE("parking: a run on a token that is parked is found", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  journal.run(0, 2s, true);
  journal.park(7, code::parked_by_outcome.id, 3s);
  CHECK(journal.count() == 0);
  SECTION("unless it is tried again") {
    journal.token(8, 4s);
    journal.run(0, 5s, false);
    CHECK(journal.count() == 0);
  }
  SECTION("by the same worker at once") {
    journal.run(0, 3100ms, false);
    CHECK(journal.count() == 1);
  }
  SECTION("but not by another that had begun before it could know") {
    journal.run(1, 4s, false);
    CHECK(journal.count() == 0);
    journal.run(1, 9s, false);
    CHECK(journal.count() == 1);
  }
  SECTION("but not by one that was stopped past its lease") {
    journal.lives[0].pauses.push_back({4s, 8s});
    journal.run(0, 7s, false);
    CHECK(journal.count() == 0);
  }
  SECTION("but not where sequences are given again") {
    journal.losses.push_back({Stored::Where::work, 4s});
    journal.run(0, 5s, false);
    CHECK(journal.count() == 0);
  }
}

TEST_CASE("parking: what is parked without cause is found", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  SECTION("by an outcome that nobody gave") {
    journal.run(0, 2s, false);
    journal.park(7, code::parked_by_outcome.id, 3s);
    CHECK(journal.count() == 1);
  }
  SECTION("before its attempts are used up") {
    for (int i = 0; i < kAttemptsMax - 1; ++i) journal.run(0, 2s + i * 100ms, true);
    journal.park(7, code::attempts_used_up.id, 3s);
    CHECK(journal.count() == 1);
    journal.run(0, 2500ms, true);
    CHECK(journal.count() == 0);
  }
  SECTION("for workers that did not end") {
    journal.run(0, 2s, false);
    journal.park(7, code::worker_crashed.id, 3s);
    CHECK(journal.count() == 1);
    for (std::uint32_t life = 1; life <= 5; ++life) {
      journal.lives.push_back({.place = 0, .killed = 2s + life * 10ms, .pauses = {}});
      journal.run(static_cast<std::uint32_t>(journal.lives.size() - 1), 2s, false).end =
          2s + life * 10ms;
    }
    CHECK(journal.count() == 0);
  }
}

TEST_CASE("parking: one attempt too many is found in the calm", "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.token(7, 2s);
  for (int i = 0; i < kAttemptsMax; ++i) journal.run(0, 3s + i * 1s, true);
  CHECK(journal.count() == 0);
  journal.run(0, 9s, true);
  CHECK(journal.count() == 1);
}

}  // namespace dmm::simulation
