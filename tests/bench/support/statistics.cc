#include "tests/bench/support/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>

namespace dmm::bench {

double quantile(std::vector<double> values, double q) {
  if (values.empty()) throw std::invalid_argument("no values to take a quantile of");
  std::sort(values.begin(), values.end());
  // Between the two nearest ranks, so that the median of an even number lies in the middle.
  const double rank = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(rank));
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (rank - std::floor(rank));
}

}  // namespace dmm::bench
