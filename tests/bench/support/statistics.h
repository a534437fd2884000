#pragma once

#include <vector>

namespace dmm::bench {

/// The value below which the share `q` (0 to 1) of the values lies; throws std::invalid_argument
/// if there are none.
double quantile(std::vector<double> values, double q);

inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

}  // namespace dmm::bench
