#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/zset.h"

namespace dmm::engine::internal {

/// An order of items in which those of one key stand together, in the order in which they came.
/// Keys follow each other by hash: the same on every run.
class HashOrder {
 public:
  /// hash_at(item) for items 0 … count-1.
  template <class HashAt>
  void assign(std::size_t count, const HashAt& hash_at) {
    order_.resize(count);
    for (std::size_t i = 0; i < count; ++i) order_[i] = (std::uint64_t{hash_at(i)} << 32) | i;
    std::sort(order_.begin(), order_.end());
  }
  std::size_t size() const noexcept { return order_.size(); }
  std::size_t operator[](std::size_t place) const noexcept { return order_[place] & 0xFFFFFFFFU; }
  std::uint32_t hash(std::size_t place) const noexcept {
    return static_cast<std::uint32_t>(order_[place] >> 32);
  }
  void clear() noexcept { clear_buffer(order_); }

  /// Brings the items of the key at `place` together; they are apart only where hashes collide.
  /// same_key(a, b) compares two items; items[i] is what it looks at of item i. returns the place
  /// behind them.
  template <class Items, class SameKey>
  std::size_t gather(std::size_t place, const Items& items, const SameKey& same_key) {
    // They lie in the order in which they came: each of them may be far.
    const auto prefetch = [&](std::size_t i) {
      if (i + kAhead < size()) __builtin_prefetch(&items[(*this)[i + kAhead]]);
    };
    prefetch(place);
    std::size_t end = place + 1;
    for (std::size_t i = end; i < size() && hash(i) == hash(place); ++i) {
      prefetch(i);
      if (!same_key((*this)[place], (*this)[i])) continue;
      const auto at = order_.begin() + static_cast<std::ptrdiff_t>(i);
      std::rotate(order_.begin() + static_cast<std::ptrdiff_t>(end++), at, at + 1);
    }
    return end;
  }

 private:
  static constexpr std::size_t kAhead = 18;
  std::vector<std::uint64_t> order_;
};

}  // namespace dmm::engine::internal
