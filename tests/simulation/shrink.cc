#include "tests/simulation/shrink.h"

#include <algorithm>

namespace dmm::simulation {

namespace {

bool breaks(const Plan& plan, const RunOptions& options, const std::string& promise) {
  const Verdict verdict = simulate(plan, options);
  return std::ranges::any_of(verdict.violations,
                             [&](const Violation& one) { return one.promise == promise; });
}

/// The plan without the steps from `first` on, `count` of them.
Plan without(const Plan& plan, std::size_t first, std::size_t count) {
  Plan less = plan;
  const auto begin = less.steps.begin() + static_cast<std::ptrdiff_t>(first);
  const std::size_t last = std::min(count, less.steps.size() - first);
  less.steps.erase(begin, begin + static_cast<std::ptrdiff_t>(last));
  return less;
}

}  // namespace

Plan shrink(const Plan& plan, const RunOptions& options, const std::string& promise,
            std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  Plan least = plan;
  std::size_t part = std::max<std::size_t>(1, least.steps.size() / 2);
  while (true) {
    bool fewer = false;
    for (std::size_t first = 0; first < least.steps.size();) {
      if (std::chrono::steady_clock::now() >= end) return least;
      Plan less = without(least, first, part);
      if (breaks(less, options, promise)) {
        least = std::move(less);
        fewer = true;
      } else {
        first += part;
      }
    }
    if (part == 1 && !fewer) return least;
    if (part > 1) part /= 2;
  }
}

}  // namespace dmm::simulation
