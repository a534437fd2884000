#pragma once

// What is wanted of a lamp: news, and levels that its view adds up. Both follow from the number of
// the news, so that whoever knows it can say what the row has to be, bit for bit.

#include <cmath>
#include <cstdint>
#include <vector>

#include "dmm/json.h"

namespace dmm::simulation {

namespace wish_internal {

__extension__ using Wide = __int128;
/// Levels are multiples of 2^-20.
constexpr int kFraction = -20;

/// Large ones that nearly cancel out, and small ones that are lost where sums are rounded on the
/// way.
inline std::vector<std::int64_t> steps_of(std::uint64_t news) {
  const auto number = static_cast<std::int64_t>(news);
  constexpr std::int64_t kLarge = (std::int64_t{1} << 52) + 1;
  return {kLarge, number * number + 7, kLarge - 2, -kLarge + 3 * number, 1, -kLarge};
}

}  // namespace wish_internal

inline nlohmann::json wish_of(std::uint64_t news) {
  nlohmann::json levels = nlohmann::json::array();
  for (const std::int64_t step : wish_internal::steps_of(news)) {
    levels.push_back(std::ldexp(static_cast<double>(step), wish_internal::kFraction));
  }
  return {{"news", news}, {"levels", std::move(levels)}};
}

/// Their sum, rounded once.
inline double total_of(std::uint64_t news) {
  wish_internal::Wide sum = 0;
  for (const std::int64_t step : wish_internal::steps_of(news)) sum += step;
  return std::ldexp(static_cast<double>(sum), wish_internal::kFraction);
}

}  // namespace dmm::simulation
