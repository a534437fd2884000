// Goal: a schedule says the right next time, and refuses what it cannot read.

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "dmm/resource/schedule.h"

namespace dmm::resource {

namespace {

using namespace std::chrono_literals;
using namespace std::chrono;

Time at(int year, unsigned month, unsigned day, int hour, int minute) {
  return Time(
      sys_days(std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(day)) +
      hours(hour) + minutes(minute));
}

}  // namespace

TEST_CASE("schedule: an interval counts from the time before and never lies in the past",
          "[resource][unit]") {
  const Time now = at(2026, 1, 1, 12, 0);
  const Schedule hourly = Schedule::every(1h, 1min);
  CHECK(hourly.next(std::nullopt, now, 0) == now);
  CHECK(hourly.next(now, now, 0) == now + 1h);
  CHECK(hourly.next(now, now, 0.5) == now + 1h + 30s);
  CHECK(hourly.next(now - 10h, now, 0) == now);  // one run after a long downtime, not ten
  CHECK_FALSE(Schedule::never().next(now, now, 0));
  CHECK(Schedule::every(-1s).is_never());
  CHECK(Schedule::every(0s).is_never());
}

TEST_CASE("schedule: cron names the next minute that fits", "[resource][unit]") {
  const Time now = at(2026, 1, 1, 12, 0);  // a Thursday
  const auto next = [&](const char* expression) {
    return Schedule::cron(expression).next({}, now, 0);
  };
  CHECK(next("* * * * *") == at(2026, 1, 1, 12, 1));
  CHECK(next("*/15 * * * *") == at(2026, 1, 1, 12, 15));
  CHECK(next("0 12 * * *") == at(2026, 1, 2, 12, 0));
  CHECK(next("30 3 * * 1-5") == at(2026, 1, 2, 3, 30));
  CHECK(next("0 0 * * 0") == at(2026, 1, 4, 0, 0));
  CHECK(next("0 0 * * 7") == at(2026, 1, 4, 0, 0));
  CHECK(next("0 0 29 2 *") == at(2028, 2, 29, 0, 0));
  CHECK(next("5,35 8-18/2 1 * *") == at(2026, 1, 1, 12, 5));
  CHECK(next("0 0 13 * 5") == at(2026, 1, 2, 0, 0));  // the 13th, or a Friday
}

TEST_CASE("schedule: what is no schedule is refused", "[resource][unit]") {
  for (const char* expression :
       {"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "a * * * *", "5-1 * * * *",
        "*/0 * * * *", "* * 31 2 *", "* * * * * *"}) {
    CAPTURE(expression);
    CHECK_THROWS_AS(Schedule::cron(expression), Error);
  }
  for (const char* text : {"", "every", "every x", "every -5", "hourly", "every 5 jitter x"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Schedule::parse(text), Error);
  }
}

TEST_CASE("schedule: its text says the same schedule again", "[resource][unit]") {
  for (const char* text : {"never", "every 3600000 jitter 60000", "every 5", "cron 0 3 * * *",
                           "cron 0 3 * * * jitter 5"}) {
    CAPTURE(text);
    CHECK(Schedule::parse(text).text() == text);
  }
}

}  // namespace dmm::resource
