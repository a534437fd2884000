// Goal: runs that pauses and policies do not allow are found. Method: journals written by hand.

#include <catch2/catch.hpp>

#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

struct Written : Journal {
  Written() {
    lives.resize(2);
    calm = 1s;
  }
  Run& run(std::uint32_t life, Time begin, Time time = 10ms) {
    runs.push_back({.key = "job.1", .life = life, .epoch = 1, .news = 1, .begin = begin});
    runs.back().end = begin + time;
    return runs.back();
  }
  std::size_t paused() const {
    std::vector<Violation> found;
    check_pauses(*this, found);
    return found.size();
  }
  std::size_t too_fast() const {
    std::vector<Violation> found;
    check_pace(*this, found);
    return found.size();
  }
};

}  // namespace

TEST_CASE("steering: a run that begins while it is paused is found", "[simulation][unit]") {
  Written journal;
  const std::string scope = GENERATE("all", "job", "job.1");
  journal.pausings.push_back({.scope = scope, .from = 2s, .to = 3s});
  journal.pausings.push_back({.scope = "valve", .from = 4s});
  journal.pausings.push_back({.scope = "job.2", .from = 4s});
  journal.run(0, 1900ms);
  journal.run(0, 2050ms);  // it was on its way
  journal.run(0, 3s);
  journal.run(0, 5s);
  CHECK(journal.paused() == 0);
  journal.run(0, 2500ms);
  CHECK(journal.paused() == 1);
  journal.run(1, 4s).paused = true;
  CHECK(journal.paused() == 2);
}

TEST_CASE("steering: more runs than a rate allows are found", "[simulation][unit]") {
  Written journal;
  journal.limits.push_back({.type = "job", .setting = "rate", .value = 2, .at = 2s});
  for (int i = 0; i < 20; ++i) journal.run(0, 1500ms);
  CHECK(journal.too_fast() == 1);  // of concurrency
  journal.runs.clear();
  for (int i = 0; i < 10; ++i) journal.run(0, 3s + i * 500ms);
  CHECK(journal.too_fast() == 0);
  for (int i = 0; i < 3; ++i) journal.run(1, 5s);
  CHECK(journal.too_fast() == 1);
  journal.limits.push_back({.type = "job", .setting = "rate", .value = 0, .at = 4990ms});
  CHECK(journal.too_fast() == 0);  // lifted just before
}

TEST_CASE("steering: more runs at a time than allowed are found", "[simulation][unit]") {
  Written journal;
  for (int i = 0; i < kConcurrency; ++i) journal.run(0, 3s + i * 1ms, 1s);
  journal.run(1, 3s, 1s);
  CHECK(journal.too_fast() == 0);
  journal.run(0, 3500ms);
  CHECK(journal.too_fast() == 1);
  journal.runs.clear();
  journal.limits.push_back({.type = "job", .setting = "concurrency", .value = 1, .at = 2s});
  journal.run(0, 3s, 1s);
  CHECK(journal.too_fast() == 0);
  journal.run(0, 3500ms);
  CHECK(journal.too_fast() == 1);
}

}  // namespace dmm::simulation
