#include "tests/bench/support/statistics.h"

#include <unistd.h>

#include <catch2/catch.hpp>

#include <stdexcept>

#include "tests/bench/support/cpu.h"

using dmm::bench::median;
using dmm::bench::quantile;

TEST_CASE("statistics: the median of an even number of values lies between the middle two",
          "[bench][unit]") {
  CHECK(median({4, 1, 3, 2}) == Approx(2.5));
  CHECK(median({5, 1, 3}) == Approx(3));
}

TEST_CASE("statistics: quantiles reach the smallest and the largest value", "[bench][unit]") {
  const std::vector<double> values{30, 10, 20};
  CHECK(quantile(values, 0) == Approx(10));
  CHECK(quantile(values, 1) == Approx(30));
  CHECK(quantile({7}, 0.99) == Approx(7));
  CHECK_THROWS_AS(quantile({}, 0.5), std::invalid_argument);
}

TEST_CASE("cpu: the time of a process that computes grows and a process that is not is refused",
          "[bench][unit]") {
  const auto before = dmm::bench::cpu_time(::getpid());
  volatile unsigned long sum = 0;
  // Clock ticks are 10 ms: computes until one has passed, which the condition itself reads.
  while (dmm::bench::cpu_time(::getpid()) <= before) sum = sum + 1;
  CHECK(dmm::bench::cpu_time(::getpid()) > before);
  CHECK_THROWS_AS(dmm::bench::cpu_time(-1), std::runtime_error);
}
