// Goal: removals that nobody asked for, or too many at a time, and rows that were computed
// otherwise, are found. Method: journals written by hand.

#include <catch2/catch.hpp>

#include "dmm/json.h"
#include "tests/simulation/journal.h"
#include "tests/simulation/wish.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

struct Written : Journal {
  Written() { removals_free = 2; }
  void say(int lamp, bool gone, Time at) {
    said.push_back({.key = "lamp." + std::to_string(lamp),
                    .news = 1,
                    .deleted = gone,
                    .begin = at,
                    .acknowledged = at});
  }
  Stored& tell(int lamp, bool gone, Time at, std::uint64_t epoch = 1) {
    stored.push_back({.where = Stored::Where::work,
                      .key = "lamp." + std::to_string(lamp),
                      .at = at,
                      .epoch = epoch,
                      .deleted = gone,
                      .of_view = true});
    return stored.back();
  }
  template <class Check>
  std::size_t count(Check check) const {
    std::vector<Violation> found;
    check(*this, found);
    return found.size();
  }
};

}  // namespace

TEST_CASE("absence: a removal that nobody said is found", "[simulation][unit]") {
  Written journal;
  journal.say(1, false, 1s);
  journal.tell(1, false, 2s);
  CHECK(journal.count(check_absence) == 0);
  SECTION("at once") {
    journal.tell(1, true, 3s);
    CHECK(journal.count(check_absence) == 1);
  }
  SECTION("unless it was said") {
    journal.say(1, true, 3s);
    journal.tell(1, true, 4s);
    CHECK(journal.count(check_absence) == 0);
  }
  SECTION("also if it was said long before it was wanted again") {
    journal.say(1, true, 3s);
    journal.say(1, false, 4s);
    journal.tell(1, true, 20s);  // it was on its way
    CHECK(journal.count(check_absence) == 0);
    journal.tell(1, true, 60s);
    CHECK(journal.count(check_absence) == 1);
  }
}

TEST_CASE("absence: too many removals without an approval are found", "[simulation][unit]") {
  Written journal;
  for (int lamp = 1; lamp <= 3; ++lamp) journal.say(lamp, true, 1s);
  journal.tell(1, true, 2s);
  journal.tell(2, true, 3s);
  journal.tell(2, true, 4s);  // repeated
  CHECK(journal.count(check_absence) == 0);
  SECTION("within a minute") {
    journal.tell(3, true, 5s);
    CHECK(journal.count(check_absence) == 1);
  }
  SECTION("not later") {
    journal.tell(3, true, 90s);
    CHECK(journal.count(check_absence) == 0);
  }
  SECTION("not with an approval") {
    journal.approvals.push_back(4500ms);
    journal.tell(3, true, 5s);
    CHECK(journal.count(check_absence) == 0);
  }
  SECTION("not of another owner") {
    journal.tell(3, true, 5s, 2);
    CHECK(journal.count(check_absence) == 0);
  }
  SECTION("not behind a loss") {
    journal.losses.push_back({Stored::Where::desired, 4500ms, true});
    journal.tell(3, true, 5s);
    CHECK(journal.count(check_absence) == 0);
  }
}

TEST_CASE("rows: one that is another in its last bit is found", "[simulation][unit]") {
  for (const std::uint64_t news : {1, 17, 4711}) {
    Written journal;
    Stored& row = journal.tell(1, false, 1s);
    row.news = news;
    nlohmann::json value = {{"news", news}, {"total", total_of(news)}};
    row.payload = dump_json(value);
    CHECK(journal.count(check_rows) == 0);
    value["total"] = std::nextafter(total_of(news), 0.0);
    row.payload = dump_json(value);
    CHECK(journal.count(check_rows) == 1);
  }
  Written journal;
  Stored& row = journal.tell(1, false, 1s);
  row.payload = R"({"done":0})";
  CHECK(journal.count(check_rows) == 1);
  row.where = Stored::Where::cache;
  CHECK(journal.count(check_rows) == 1);
  journal.losses.push_back({Stored::Where::cache, 500ms, true});  // there was no row to run on
  CHECK(journal.count(check_rows) == 0);
  // What is summed up in order is often another number, else nothing would be shown.
  int others = 0;
  for (std::uint64_t news = 1; news <= 100; ++news) {
    double sum = 0;
    const nlohmann::json wish = wish_of(news);
    for (const auto& level : wish.at("levels")) sum += level.get<double>();
    if (sum != total_of(news)) ++others;
  }
  CHECK(others >= 30);
}

TEST_CASE("alive: calls without answers and identities without runs are found",
          "[simulation][unit]") {
  Written journal;
  journal.calm = 1s;
  const auto count = [&](std::size_t identities) {
    std::vector<Violation> found;
    check_alive(journal, identities, found);
    return found.size();
  };
  journal.say(1, false, 500ms);
  CHECK(count(0) == 1);  // nothing in the calm
  journal.say(1, false, 2s);
  CHECK(count(0) == 0);
  CHECK(count(1) == 1);  // that never ran
  journal.runs.push_back({.key = "lamp.1", .begin = 2s, .end = Time(3s), .succeeded = true});
  CHECK(count(1) == 0);
  journal.said.back().acknowledged.reset();
  CHECK(count(1) == 1);
}

TEST_CASE("digest: it is that of all that happened", "[simulation][unit]") {
  Written journal;
  journal.tell(1, false, 1s);
  const std::uint64_t before = digest_of(journal);
  CHECK(digest_of(journal) == before);
  journal.stored.back().at += 1ns;
  CHECK(digest_of(journal) != before);
  journal.stored.back().at -= 1ns;
  journal.runs.push_back({.key = "lamp.1", .begin = 2s});
  CHECK(digest_of(journal) != before);
}

}  // namespace dmm::simulation
