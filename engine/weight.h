#pragma once

#include <cstdint>

namespace dmm::engine {

/// How often an element is in a Z-set; negative means that it is owed. A plain int64 because every
/// row carries one; all arithmetic goes through the functions below, which report overflow.
using Weight = std::int64_t;

/// out = a + b. returns false on overflow, and leaves `out` unspecified.
[[nodiscard]] inline bool add_weights(Weight a, Weight b, Weight& out) noexcept {
  return !__builtin_add_overflow(a, b, &out);
}
/// out = a * b. returns false on overflow, and leaves `out` unspecified.
[[nodiscard]] inline bool multiply_weights(Weight a, Weight b, Weight& out) noexcept {
  return !__builtin_mul_overflow(a, b, &out);
}
/// out = -a. returns false for the one weight that has no opposite.
[[nodiscard]] inline bool negate_weight(Weight a, Weight& out) noexcept {
  return !__builtin_sub_overflow(Weight{0}, a, &out);
}

}  // namespace dmm::engine
