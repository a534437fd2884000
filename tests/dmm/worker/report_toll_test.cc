#include "dmm/worker/report_toll.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <limits>

#include "dmm/limits.h"

namespace dmm::worker {

namespace {

using namespace std::chrono_literals;

constexpr ReportToll::Time kNow{1'700'000'000'000ms};

}  // namespace

TEST_CASE("report toll: who ended nobody is handled at once", "[observer][unit]") {
  ReportToll toll;
  toll.note_end("b", kNow);
  CHECK(toll.count("a") == 0);
  CHECK(toll.wait("a", kNow) == 0ms);
  CHECK_FALSE(toll.refuses("a", kNow));
}

TEST_CASE("report toll: each end makes the wait longer and after so many reports are refused",
          "[observer][unit]") {
  ReportToll toll;
  auto wait = 0ms;
  for (int i = 1; i < limits::crashes_max; ++i) {
    toll = ReportToll(toll.ends());  // the next owner
    toll.note_end("a", kNow);
    CHECK(toll.count("a") == i);
    CHECK(toll.wait("a", kNow) > wait);
    wait = toll.wait("a", kNow);
    CHECK(toll.wait("a", kNow + wait - 1ms) == 1ms);
    CHECK(toll.wait("a", kNow + wait) == 0ms);
    CHECK_FALSE(toll.refuses("a", kNow));
  }
  toll.note_end("a", kNow);
  CHECK(toll.wait("a", kNow) == 0ms);
  CHECK(toll.refuses("a", kNow));
}

TEST_CASE("report toll: after some minutes one of a device that is refused is tried",
          "[observer][unit]") {
  ReportToll toll;
  for (int i = 0; i < limits::crashes_max; ++i) toll.note_end("a", kNow);
  CHECK(toll.refuses("a", kNow + limits::backoff_max - 1ms));
  const auto later = kNow + limits::backoff_max;
  CHECK_FALSE(toll.refuses("a", later));
  CHECK(toll.wait("a", later) == 0ms);
  SECTION("it ends one more") {
    toll.note_end("a", later);
    CHECK(toll.refuses("a", later));
  }
  SECTION("it does not") {
    toll.clear("a");
    CHECK(toll.ends().empty());
  }
}

TEST_CASE("report toll: a clock that was set back keeps nobody waiting", "[observer][unit]") {
  ReportToll toll;
  toll.note_end("a", kNow);
  CHECK(toll.wait("a", kNow - 1h) == 0ms);
  for (int i = 0; i < limits::crashes_max; ++i) toll.note_end("b", kNow);
  CHECK_FALSE(toll.refuses("b", kNow - 1h));
}

TEST_CASE("report toll: beyond so many devices those with the fewest and oldest ends are forgotten",
          "[observer][unit]") {
  ReportToll toll;
  toll.note_end("worst", kNow);
  toll.note_end("worst", kNow);
  for (std::size_t i = 0; i < 2 * limits::report_toll_max; ++i) {
    toll.note_end(fmt::format("d{}", i), kNow + i * 1ms);
  }
  CHECK(toll.ends().size() == limits::report_toll_max);
  CHECK(toll.count("worst") == 2);
  CHECK(toll.count("d0") == 0);
  CHECK(toll.count(fmt::format("d{}", 2 * limits::report_toll_max - 1)) == 1);
}

TEST_CASE("report toll: what someone else wrote is bounded", "[observer][unit]") {
  internal::ReportEnds ends;
  for (std::size_t i = 0; i < 2 * limits::report_toll_max; ++i) {
    ends[fmt::format("d{}", i)] = {std::numeric_limits<int>::max(),
                                   std::numeric_limits<std::int64_t>::max()};
  }
  ReportToll toll(ends);
  CHECK(toll.ends().size() <= limits::report_toll_max);
  CHECK(toll.count("d0") == limits::crashes_max);
  CHECK_FALSE(toll.refuses("d0", kNow));
  toll.note_end("d0", kNow);
  CHECK(toll.count("d0") == limits::crashes_max);
  CHECK(toll.refuses("d0", kNow));
}

}  // namespace dmm::worker
