/// Exact sums: the order and the batching of additions do not show in the result.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/value.h"
#include "engine/weight.h"

namespace dmm::engine {

/// A sum of integers and doubles, each times a weight, held exactly and rounded once when read.
///
/// Integers go to a 128-bit counter. The first double that is not integral allocates a fixed-point
/// accumulator over the whole range of double (600 bytes), freed when no double is left.
/// Source of the idea: Kulisch's long accumulator.
class ExactSum {
 public:
  /// Adds value * weight; value must be a number. returns false on overflow of the counters, and
  /// changes nothing then. O(1).
  [[nodiscard]] bool add(ValueRef value, Weight weight);
  /// The sum: an integer when only integers are in, else the nearest double (ties to even).
  /// returns false when it is outside of int64 or of the range of double.
  [[nodiscard]] bool sum(Value& out) const;
  /// sum / count, rounded once; count > 0. returns false when out of range.
  [[nodiscard]] bool mean(std::int64_t count, Value& out) const;
  /// True when a double has a part in the sum (by weight).
  bool has_reals() const noexcept { return reals_ != 0; }

 private:
  __extension__ using Wide = __int128;
  // Limb i counts 2^(32 i - 1200); a limb may hold more than 32 bits until it is normalised.
  static constexpr int kLowest = 1200;
  static constexpr int kLimbs = 76;
  struct Limbs {
    std::array<std::int64_t, kLimbs> value{};
    std::int32_t additions = 0;
  };
  static void normalise(Limbs& limbs) noexcept;
  static void add_wide(Limbs& limbs, Wide mantissa, int exponent) noexcept;
  bool rounded(std::int64_t divisor, double& out) const;

  Wide integers_ = 0;
  std::int64_t reals_ = 0;  // sum of the weights of doubles
  std::unique_ptr<Limbs> limbs_;
};

}  // namespace dmm::engine
