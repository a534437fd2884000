#pragma once

// Durations counts how long something took, in fixed classes: enough for a histogram of Prometheus,
// and cheap enough for every run.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace dmm {

/// A regular value. One thread changes it at a time.
struct Durations {
  using Bound = std::chrono::microseconds;
  /// The longest duration of each class; what is longer falls into one more class.
  static constexpr std::array<Bound, 19> kBounds = {
      Bound(100),        Bound(250),        Bound(500),        Bound(1'000),      Bound(2'500),
      Bound(5'000),      Bound(10'000),     Bound(25'000),     Bound(50'000),     Bound(100'000),
      Bound(250'000),    Bound(500'000),    Bound(1'000'000),  Bound(2'500'000),  Bound(5'000'000),
      Bound(10'000'000), Bound(30'000'000), Bound(60'000'000), Bound(300'000'000)};

  std::array<std::uint64_t, kBounds.size() + 1> counts{};  ///< of each class alone
  std::chrono::nanoseconds sum{0};

  /// A negative duration, as two clocks that disagree make one, counts as none.
  void add(std::chrono::nanoseconds took) noexcept {
    if (took.count() < 0) took = {};
    std::size_t at = 0;
    while (at < kBounds.size() && took > kBounds[at]) ++at;
    ++counts[at];
    sum += took;
  }
  std::uint64_t count() const noexcept {
    std::uint64_t all = 0;
    for (const std::uint64_t one : counts) all += one;
    return all;
  }

  friend bool operator==(const Durations&, const Durations&) = default;
};

}  // namespace dmm
