#include "engine/exact_sum.h"

#include <bit>
#include <cmath>

namespace dmm::engine {

void ExactSum::normalise(Limbs& limbs) noexcept {
  std::int64_t carry = 0;
  for (int i = 0; i + 1 < kLimbs; ++i) {
    const std::int64_t total = limbs.value[static_cast<std::size_t>(i)] + carry;
    carry = total >> 32;  // floor, also for negative limbs
    limbs.value[static_cast<std::size_t>(i)] = total - carry * (std::int64_t{1} << 32);
  }
  limbs.value[kLimbs - 1] += carry;
  limbs.additions = 0;
}

void ExactSum::add_wide(Limbs& limbs, Wide mantissa, int exponent) noexcept {
  const bool negative = mantissa < 0;
  __extension__ using Unsigned = unsigned __int128;
  Unsigned magnitude =
      negative ? ~static_cast<Unsigned>(mantissa) + 1 : static_cast<Unsigned>(mantissa);
  const int shifted = exponent + kLowest;
  auto limb = static_cast<std::size_t>(shifted / 32);
  const int offset = shifted % 32;
  // The lowest piece holds the bits that fill the first limb, then 32 bits for each limb.
  const Unsigned first_mask = (Unsigned{1} << (32 - offset)) - 1;
  auto piece =
      static_cast<std::int64_t>(static_cast<std::uint64_t>(magnitude & first_mask) << offset);
  magnitude >>= 32 - offset;
  for (;; ++limb) {
    limbs.value[limb] += negative ? -piece : piece;
    if (magnitude == 0) break;
    piece = static_cast<std::int64_t>(static_cast<std::uint64_t>(magnitude) & 0xFFFFFFFFU);
    magnitude >>= 32;
  }
  if (++limbs.additions >= (1 << 29)) normalise(limbs);
}

bool ExactSum::add(ValueRef value, Weight weight) {
  if (value.kind == Kind::integer) {
    const Wide part = static_cast<Wide>(value.as_integer()) * weight;
    return !__builtin_add_overflow(integers_, part, &integers_);
  }
  std::int64_t reals;
  if (!add_weights(reals_, weight, reals)) return false;
  if (!limbs_) limbs_ = std::make_unique<Limbs>();
  int exponent;
  const double fraction = std::frexp(value.as_double(), &exponent);
  const auto mantissa = static_cast<std::int64_t>(std::ldexp(fraction, 53));
  add_wide(*limbs_, static_cast<Wide>(mantissa) * weight, exponent - 53);
  reals_ = reals;
  if (reals_ == 0) {
    normalise(*limbs_);
    bool zero = true;
    for (const std::int64_t limb : limbs_->value) zero = zero && limb == 0;
    if (zero) limbs_.reset();
  }
  return true;
}

// Magnitude / divisor by long division, then 53 bits rounded to nearest, ties to even.
bool ExactSum::rounded(std::int64_t divisor, double& out) const {
  __extension__ using Unsigned = unsigned __int128;
  Limbs total = limbs_ ? *limbs_ : Limbs{};
  add_wide(total, integers_, 0);
  normalise(total);
  const bool negative = total.value[kLimbs - 1] < 0;
  if (negative) {
    for (std::int64_t& limb : total.value) limb = -limb;
    normalise(total);
  }
  constexpr int kExtra = 2;  // limbs below the lowest, for the quotient
  std::array<std::uint32_t, kLimbs + kExtra> quotient{};
  Unsigned remainder = 0;
  for (int i = kLimbs + kExtra - 1; i >= 0; --i) {
    const std::int64_t digit = i >= kExtra ? total.value[static_cast<std::size_t>(i - kExtra)] : 0;
    if (digit > 0xFFFFFFFFLL) return false;
    remainder = (remainder << 32) | static_cast<std::uint64_t>(digit);
    quotient[static_cast<std::size_t>(i)] =
        static_cast<std::uint32_t>(remainder / static_cast<std::uint64_t>(divisor));
    remainder %= static_cast<std::uint64_t>(divisor);
  }
  int top = kLimbs + kExtra - 1;
  while (top >= 0 && quotient[static_cast<std::size_t>(top)] == 0) --top;
  if (top < 0) {
    out = 0;
    return true;
  }
  const int lowest = kLowest + 32 * kExtra;
  const int high = top * 32 + 31 - std::countl_zero(quotient[static_cast<std::size_t>(top)]);
  const int cut = std::max(high - 52, lowest - 1074);  // the lowest bit that a double keeps
  auto bit = [&quotient](int at) {
    return at >= 0 && ((quotient[static_cast<std::size_t>(at / 32)] >> (at % 32)) & 1U) != 0;
  };
  std::uint64_t mantissa = 0;
  for (int at = high; at >= cut; --at) mantissa = mantissa * 2 + (bit(at) ? 1 : 0);
  bool below = remainder != 0;
  for (int at = cut - 2; at >= 0 && !below; --at) below = bit(at);
  if (bit(cut - 1) && (below || (mantissa & 1) != 0)) ++mantissa;
  out = std::ldexp(static_cast<double>(mantissa), cut - lowest);
  if (negative) out = -out;
  return std::isfinite(out);
}

bool ExactSum::sum(Value& out) const {
  if (!limbs_) {
    const auto cut = static_cast<std::int64_t>(integers_);
    if (cut != integers_) return false;
    out = Value::integer(cut);
    return true;
  }
  double result;
  if (!rounded(1, result)) return false;
  out = Value::real(result);
  return true;
}

bool ExactSum::mean(std::int64_t count, Value& out) const {
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  double result;
  if (!limbs_ && integers_ < kExact && integers_ > -kExact && count < kExact)
    result = static_cast<double>(static_cast<std::int64_t>(integers_)) / static_cast<double>(count);
  else if (!rounded(count, result))
    return false;
  out = Value::real(result);
  return true;
}

}  // namespace dmm::engine
