// Goal: nothing that is missing or broken lets a run pass.

#include "tests/nemesis/verdict.h"

#include <catch2/catch.hpp>

using namespace dmm::nemesis;

namespace {

/// Ten seconds in which enough was done and all was as promised.
Outcome a_good_one() {
  Outcome outcome;
  outcome.history.lives = {{"worker 0", 0, 0}};
  for (std::uint32_t identity = 0; identity < 64; ++identity) {
    const Nanoseconds at = kSecond + identity;
    outcome.history.notified.push_back({at, identity, 1});
    outcome.history.runs.push_back({identity, 1, 0, 1, at + 10, at + 20, true});
    outcome.history.entries.push_back({identity + 1u, identity, 1, 1, at + 30});
  }
  outcome.history.volleys = {{kSecond, kSecond}};
  outcome.deeds = {4, 4, 4, 4, 4, 4};
  outcome.readers = 3;
  put_in_order(outcome.history);
  return outcome;
}

Options options() {
  Options options;
  options.seconds = 10;
  options.identities = 64;
  options.notifies_min = 64;
  return options;
}

bool good(const Outcome& outcome, Bug bug = Bug::none) {
  Options with = options();
  with.bug = bug;
  const Verdict verdict(with, outcome);
  INFO(verdict.text());
  return verdict.good();
}

}  // namespace

TEST_CASE("verdict: it is good when enough was done and nothing found", "[nemesis][unit]") {
  const Verdict verdict(options(), a_good_one());
  INFO(verdict.text());
  CHECK(verdict.good());
  CHECK(verdict.text().ends_with(
      "64 notifies, 4 worker kills, 4 server faults: 0 lost, 0 overlaps, 0 stale writes accepted, "
      "back to work within 0.0 s\n"));
  CHECK(verdict.text().find("BROKEN") == std::string::npos);
}

TEST_CASE("verdict: a run in which nothing happened does not pass", "[nemesis][unit]") {
  CHECK_FALSE(good(Outcome()));
}

TEST_CASE("verdict: too little of anything does not pass", "[nemesis][unit]") {
  Outcome outcome = a_good_one();
  SECTION("notifies") {
    outcome.history.notified.pop_back();
  }
  SECTION("kills") {
    outcome.deeds.worker_kills = 0;
  }
  SECTION("successes") {
    outcome.history.runs.pop_back();
    outcome.history.notified.push_back({kSecond, 0, 1});
  }
  SECTION("volleys on workers") {
    outcome.history.volleys[0].server = true;
  }
  CHECK_FALSE(good(outcome));
}

TEST_CASE("verdict: whatever is broken does not pass", "[nemesis][unit]") {
  Outcome outcome = a_good_one();
  SECTION("lost news") {
    outcome.history.notified.push_back({2 * kSecond, 3, 2});
  }
  SECTION("an overlap") {
    outcome.history.runs.push_back(outcome.history.runs[5]);
  }
  SECTION("a stale write") {
    outcome.history.entries.push_back({100, 3, 1, 0, 5 * kSecond});
  }
  SECTION("a worker that ended by itself") {
    outcome.surprises.emplace_back("worker 1 ended with exit code 1");
  }
  SECTION("a world that went back") {
    outcome.world_went_back = 1;
  }
  SECTION("work that is not done") {
    outcome.tokens_left.outstanding = 1;
  }
  SECTION("a loss of history") {
    outcome.history_losses = 1;
  }
  SECTION("five seconds of standing still") {
    outcome.history.notified.push_back({2 * kSecond, 3, 2});
    outcome.history.runs.push_back({3, 2, 0, 1, 8 * kSecond, 9 * kSecond, true});
    outcome.history.entries.push_back({100, 3, 2, 1, 9 * kSecond});
  }
  put_in_order(outcome.history);
  CHECK_FALSE(good(outcome));
}

TEST_CASE("verdict: with a bug it is good when that was found", "[nemesis][unit]") {
  Outcome outcome = a_good_one();
  CHECK_FALSE(good(outcome, Bug::drop_news));
  CHECK_FALSE(good(outcome, Bug::no_lease));
  CHECK_FALSE(good(outcome, Bug::no_fence));
  outcome.history.notified.push_back({2 * kSecond, 3, 2});
  CHECK(good(outcome, Bug::drop_news));
  outcome.history.runs.push_back(outcome.history.runs[5]);
  CHECK(good(outcome, Bug::no_lease));
  outcome.history.entries.push_back({100, 3, 1, 0, 5 * kSecond});
  CHECK(good(outcome, Bug::no_fence));
}
