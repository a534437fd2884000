#include "dmm/worker/backoff.h"

#include <catch2/catch.hpp>

using std::chrono::milliseconds;

TEST_CASE("backoff: the wait is spread over the whole of a range that doubles up to its cap",
          "[worker][unit]") {
  std::mt19937_64 random(42);
  const auto ceiling =
      GENERATE(table<int, int>({{1, 100}, {2, 200}, {3, 400}, {7, 5'000}, {1'000'000, 5'000}}));
  milliseconds longest(0);
  milliseconds shortest(1'000'000);
  for (int i = 0; i < 2'000; ++i) {
    const milliseconds wait =
        dmm::worker::backoff(std::get<0>(ceiling), milliseconds(100), milliseconds(5'000), random);
    longest = std::max(longest, wait);
    shortest = std::min(shortest, wait);
  }
  CHECK(longest <= milliseconds(std::get<1>(ceiling)));
  CHECK(longest > milliseconds(std::get<1>(ceiling) * 9 / 10));
  CHECK(shortest < milliseconds(std::get<1>(ceiling) / 10));
}
