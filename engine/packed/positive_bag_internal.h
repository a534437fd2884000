#pragma once

#include "engine/packed/packed_bag_internal.h"
#include "engine/zset.h"

namespace dmm::engine::internal {

/// A bag whose rows of positive weight are kept in order, for min, max, top-k and sorted lists;
/// rows that are owed (negative weight) wait aside. A handle of 16 bytes, as PackedBag is.
class PositiveBag {
 public:
  /// Adds `weight` to the weight of the row that the store looks for; `before` receives its old
  /// one. returns false on overflow, and changes nothing then. O(log n + chunk).
  [[nodiscard]] bool add(RowStore& store, Weight weight, Weight& before);
  /// True when no row has a positive weight.
  bool empty() const noexcept { return rows_.empty(); }
  /// True when there is nothing at all, not even something owed.
  bool clean() const noexcept { return rows_.empty() && owed_.empty(); }
  /// The rows of positive weight.
  const PackedBag& rows() const noexcept { return rows_; }
  /// Every row, owed ones included, in no defined order: what a state image stores.
  Batch all(const RowStore& store) const;
  void clear(RowStore& store) noexcept;

 private:
  PackedBag rows_;
  PackedBag owed_;
};

}  // namespace dmm::engine::internal
