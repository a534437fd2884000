// Goal: attempts that are forgotten, hasty, late or counted on, and news and neighbours that wait,
// are found. Method: journals written by hand.

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "tests/simulation/journal.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

struct Written : Journal {
  Written() { lives.resize(3); }
  Run& run(std::uint32_t life, int attempt, Time begin, bool succeeded = false) {
    runs.push_back({.key = "job.1", .life = life, .epoch = 1, .news = news, .begin = begin});
    runs.back().end = begin + 10ms;
    runs.back().attempt = attempt;
    runs.back().succeeded = succeeded;
    return runs.back();
  }
  void token(std::uint64_t sequence, Time at) {
    news = sequence;
    stored.push_back({.where = Stored::Where::work,
                      .key = "job.1",
                      .at = at,
                      .sequence = sequence,
                      .news = news});
  }
  /// It failed so often, and is tried again behind a delay.
  void failing(int attempts, Time at, Time delay) {
    stored.push_back({.where = Stored::Where::failing,
                      .key = "job.1",
                      .at = at,
                      .news = news,
                      .attempts = attempts,
                      .delay = delay});
  }
  template <class Check>
  std::vector<std::string> broken(Check check) const {
    std::vector<Violation> found;
    check(*this, found);
    std::vector<std::string> words;
    for (const Violation& one : found) words.push_back(one.promise);
    return words;
  }

  std::uint64_t news = 0;
};

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("attempts: who takes over goes on with them", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  journal.run(0, 1, 2s);
  journal.failing(1, 2015ms, 40ms);
  SECTION("is as promised") {
    journal.run(1, 2, 9s);
    CHECK(journal.broken(check_attempts).empty());
  }
  SECTION("is found if it forgets them") {
    journal.run(1, 1, 9s);
    CHECK(journal.broken(check_attempts) == Words{"attempts"});
  }
  SECTION("may have begun before it could know, while there are faults") {
    journal.run(1, 1, 3s);
    CHECK(journal.broken(check_attempts).empty());
    journal.calm = 1s;
    CHECK(journal.broken(check_attempts) == Words{"attempts"});
  }
  SECTION("begins anew behind a success") {
    journal.run(0, 2, 3s, true);
    journal.run(1, 1, 9s);
    CHECK(journal.broken(check_attempts).empty());
  }
  SECTION("knows nothing where the status was lost") {
    journal.losses.push_back({Stored::Where::status, 3s});
    journal.run(1, 1, 9s);
    CHECK(journal.broken(check_attempts).empty());
  }
}

TEST_CASE("attempts: a delay is kept", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  journal.run(0, 1, 2s);
  journal.failing(1, 2015ms, 45ms);
  journal.calm = 1s;
  SECTION("to the millisecond") {
    journal.run(0, 2, 2055ms);
    CHECK(journal.broken(check_attempts).empty());
  }
  SECTION("so that a run before it ends is found") {
    journal.run(0, 2, 2050ms);
    CHECK(journal.broken(check_attempts) == Words{"attempts"});
  }
  SECTION("but not by a clock that jumps") {
    journal.lives[0].clock_jumped = true;
    journal.run(0, 2, 2050ms);
    CHECK(journal.broken(check_attempts).empty());
  }
  SECTION("so that a run long behind it is found in the calm") {
    journal.run(0, 2, 4s);
    CHECK(journal.broken(check_attempts) == Words{"attempts"});
    journal.pausings.push_back({.scope = "job", .from = 2s, .to = 3s});
    CHECK(journal.broken(check_attempts).empty());
  }
}

TEST_CASE("attempts: a delay beyond the policy is found", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  journal.failing(1, 2s, kBackoffFirst);
  journal.failing(2, 3s, 2 * kBackoffFirst);
  journal.failing(30, 4s, kBackoffMax);
  CHECK(journal.broken(check_attempts).empty());
  journal.failing(1, 5s, kBackoffFirst + 1ms);
  CHECK(journal.broken(check_attempts) == Words{"attempts"});
  journal.limits.push_back(
      {.type = "job", .setting = "backoff_first_s", .value = 1, .at = Time(4500ms)});
  CHECK(journal.broken(check_attempts).empty());
}

TEST_CASE("attempts: delays without jitter are found", "[simulation][unit]") {
  const auto with = [](Time shorter) {
    Written journal;
    journal.token(7, 1s);
    for (int i = 0; i < 12; ++i) {
      journal.failing(1, 2s + i * 1s, i % 2 == 0 ? Time(kBackoffFirst) : shorter);
    }
    return journal.broken(check_attempts);
  };
  CHECK(with(kBackoffFirst / 2).empty());
  CHECK(with(kBackoffFirst - 1ms) == Words{"attempts"});
}

TEST_CASE("attempts: news that have those of the news before are found", "[simulation][unit]") {
  Written journal;
  journal.token(7, 1s);
  for (int attempt = 1; attempt <= 3; ++attempt) journal.run(0, attempt, 2s + attempt * 1s);
  journal.token(8, 6s);
  SECTION("they begin anew") {
    journal.run(0, 1, 7s);
    journal.run(0, 2, 8s);
    CHECK(journal.broken(check_attempts).empty());
  }
  SECTION("or do not") {
    journal.run(0, 4, 7s);
    CHECK(journal.broken(check_attempts) == Words{"news"});
  }
}

TEST_CASE("attempts: news that wait for a backoff are found", "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  journal.token(7, 1s);
  journal.run(0, 1, 2s);
  journal.failing(1, 2015ms, 5s);
  journal.token(8, 3s);
  SECTION("if they run at once they do not") {
    journal.run(0, 1, 3500ms);
    CHECK(journal.broken(check_news).empty());
  }
  SECTION("if they run when it is over") {
    journal.run(0, 1, 7010ms);
    CHECK(journal.broken(check_news) == Words{"news"});
  }
  SECTION("if they never run") {
    CHECK(journal.broken(check_news) == Words{"news"});
  }
  SECTION("but a pause explains it") {
    journal.pausings.push_back({.scope = "all", .from = 1s});
    CHECK(journal.broken(check_news).empty());
  }
  SECTION("and the end of a worker") {
    journal.lives[0].ended = 3100ms;
    CHECK(journal.broken(check_news).empty());
  }
}

TEST_CASE("attempts: news that wait for others that fail are found", "[simulation][unit]") {
  Written journal;
  journal.said.push_back({.key = "job.1", .news = 9, .begin = 2s, .acknowledged = Time(2s)});
  journal.news = 9;
  CHECK(journal.broken(check_poison).empty());  // there is no trial
  journal.trials.push_back({.poisoned = {"job.0"}, .from = 1s, .to = 9s});
  CHECK(journal.broken(check_poison) == Words{"poison"});
  journal.run(0, 1, 4s);
  CHECK(journal.broken(check_poison) == Words{"poison"});
  journal.run(0, 1, 2900ms);
  CHECK(journal.broken(check_poison).empty());
  journal.runs.clear();
  journal.trials.front().poisoned.emplace_back("job.1");
  CHECK(journal.broken(check_poison).empty());
}

}  // namespace dmm::simulation
