// Goal: each check sees what it is for, and nothing in a journal that is as promised. Method:
// journals written by hand.

#include <catch2/catch.hpp>

#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

struct Written : Journal {
  Written() { lives.resize(2); }
  Run& run(std::uint32_t life, std::uint64_t epoch, std::uint64_t news, Time begin, Time end) {
    runs.push_back({.key = "job.1",
                    .life = life,
                    .epoch = epoch,
                    .news = news,
                    .begin = begin,
                    .end = end,
                    .succeeded = true});
    return runs.back();
  }
  void say(std::uint64_t news, Time at) {
    said.push_back({.key = "job.1", .news = news, .begin = at, .acknowledged = at});
  }
  Stored& store(Stored::Where where, std::uint64_t news, std::uint64_t epoch, Time at) {
    stored.push_back({.where = where,
                      .key = "job.1",
                      .at = at,
                      .sequence = stored.size() + 1,
                      .news = news,
                      .epoch = epoch,
                      .payload = std::to_string(news)});
    return stored.back();
  }
};

template <class Check>
std::size_t count(const Journal& journal, Check check) {
  std::vector<Violation> found;
  check(journal, found);
  return found.size();
}

}  // namespace

TEST_CASE("checks: runs that meet are found unless a pause explains them", "[simulation][unit]") {
  Written journal;
  journal.run(0, 1, 1, 1s, 2s);
  journal.run(1, 2, 1, 2s, 3s);
  CHECK(count(journal, check_overlaps) == 0);
  journal.run(0, 3, 2, 4s, 9s);
  journal.run(1, 4, 2, 8s, 10s);
  CHECK(count(journal, check_overlaps) == 1);
  journal.lives[0].pauses.push_back({5s, 6s});
  CHECK(count(journal, check_overlaps) == 1);  // too short to lose a lease
  journal.lives[0].pauses.push_back({7800ms, 8998ms});
  CHECK(count(journal, check_overlaps) == 1);  // it went on for 2 ms behind that
  journal.lives[0].pauses.push_back({7800ms, 8999ms});
  CHECK(count(journal, check_overlaps) == 0);
  journal.lives[0].pauses = {{4500ms, 8500ms}};
  CHECK(count(journal, check_overlaps) == 0);
  journal.run(1, 3, 2, 8s, 9s);
  CHECK(count(journal, check_overlaps) == 2);  // no pause makes two owners of one epoch
}

TEST_CASE("checks: a run of an epoch that is over is found", "[simulation][unit]") {
  Written journal;
  journal.run(0, 2, 1, 1s, 2s);
  journal.run(1, 1, 2, 3s, 4s);
  CHECK(count(journal, check_zombies) == 1);
  journal.lives[1].pauses.push_back({500ms, 3500ms});
  CHECK(count(journal, check_zombies) == 0);
}

TEST_CASE("checks: entries that go back are found", "[simulation][unit]") {
  Written journal;
  journal.store(Stored::Where::cache, 1, 1, 1s);
  journal.store(Stored::Where::cache, 2, 2, 2s);
  CHECK(count(journal, check_stale_writes) == 0);
  journal.store(Stored::Where::cache, 1, 2, 3s);
  journal.store(Stored::Where::cache, 3, 1, 4s);
  CHECK(count(journal, check_stale_writes) == 2);
  journal.losses.push_back({Stored::Where::cache, 2500ms});
  CHECK(count(journal, check_stale_writes) == 1);  // begun anew
}

TEST_CASE("checks: what an earlier owner of a view had on its way is no entry that goes back",
          "[simulation][unit]") {
  Written journal;
  const auto tell = [&](std::uint64_t news, std::uint64_t epoch, Time at) {
    journal.store(Stored::Where::work, news, epoch, at).of_view = true;
    journal.store(Stored::Where::cache, news, 1, at);
  };
  tell(4, 2, 1s);
  tell(3, 1, 2s);
  CHECK(count(journal, check_stale_writes) == 0);
  tell(2, 2, 3s);  // the present owner itself
  CHECK(count(journal, check_stale_writes) == 1);
}

TEST_CASE("checks: what came in place of lost reports may be written again", "[simulation][unit]") {
  Written journal;
  const auto store = [&](std::uint64_t news, Time at) {
    journal.store(Stored::Where::cache, news, 1, at).key = "sink.1";
  };
  journal.losses.push_back({Stored::Where::reports, 1s});
  store(34, 2s);  // was being handled
  store(27, 3s);
  store(27, 20s);
  CHECK(count(journal, check_stale_writes) == 0);
  store(26, 21s);
  CHECK(count(journal, check_stale_writes) == 1);
}

TEST_CASE("checks: what an observer tells once more is no run without cause",
          "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.run(0, 1, 1, 2s, 3s).key = "sink.1";
  CHECK(count(journal, check_coalescing) == 1);
  journal.store(Stored::Where::work, 1, 1, 900ms).key = "sink.1";
  CHECK(count(journal, check_coalescing) == 1);
  journal.store(Stored::Where::work, 1, 1, 1900ms).key = "sink.1";
  CHECK(count(journal, check_coalescing) == 0);
}

TEST_CASE("checks: one resync that could not be told before is no run without cause",
          "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.run(0, 1, 1, 2s, 3s).key = "job.1";
  CHECK(count(journal, check_coalescing) == 1);
  journal.store(Stored::Where::work, 0, 1, 900ms).key = "job.1";
  CHECK(count(journal, check_coalescing) == 1);
  journal.store(Stored::Where::work, 0, 1, 1900ms).key = "job.1";
  CHECK(count(journal, check_coalescing) == 0);
  journal.store(Stored::Where::work, 0, 1, 3900ms).key = "job.1";
  journal.run(0, 1, 1, 4s, 5s).key = "job.1";
  CHECK(count(journal, check_coalescing) == 1);
}

TEST_CASE("checks: runs without cause and runs on what is old are found", "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.say(1, 1s);
  journal.run(0, 1, 1, 1100ms, 2s);
  journal.say(2, 1200ms);
  journal.say(3, 1300ms);
  journal.run(0, 1, 3, 2s, 2100ms);
  CHECK(count(journal, check_coalescing) == 0);
  journal.runs.back().news = 2;
  CHECK(count(journal, check_coalescing) == 1);
  journal.runs.back().news = 3;
  journal.run(0, 1, 3, 3s, 4s);
  CHECK(count(journal, check_coalescing) == 1);
  journal.runs.back().news = 4;
  journal.run(0, 1, 5, 5s, 6s);
  CHECK(count(journal, check_coalescing) == 1);  // more runs than notifies
}

TEST_CASE("checks: a view that tells what was told is found", "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.store(Stored::Where::work, 1, 1, 500ms).of_view = true;
  journal.say(2, 1s);
  journal.store(Stored::Where::work, 2, 1, 2s).of_view = true;
  CHECK(count(journal, check_exactness) == 0);
  journal.say(2, 2s);
  journal.store(Stored::Where::work, 2, 1, 3s).of_view = true;
  CHECK(count(journal, check_exactness) == 1);
  journal.store(Stored::Where::work, 3, 1, 4s).of_view = true;
  CHECK(count(journal, check_exactness) == 2);  // three for two changes
}

TEST_CASE("checks: a cursor that passes what was not handled is found", "[simulation][unit]") {
  Written journal;
  journal.store(Stored::Where::reports, 7, 0, 1s);  // sequence 1
  journal.store(Stored::Where::reports, 8, 0, 2s);  // sequence 2, in place of it
  journal.store(Stored::Where::cursor, 1, 0, 3s);
  CHECK(count(journal, check_cursor) == 0);
  journal.store(Stored::Where::cursor, 2, 0, 5s);
  CHECK(count(journal, check_cursor) == 1);
  journal.handled.push_back({"job.1", 8, 4s});
  CHECK(count(journal, check_cursor) == 0);
}

}  // namespace dmm::simulation
