#include "engine/packed/positive_bag_internal.h"

namespace dmm::engine::internal {

bool PositiveBag::add(RowStore& store, Weight weight, Weight& before) {
  Weight ignored;
  if (owed_.empty() && weight != INT64_MIN) {
    if (!rows_.add(store, weight, before)) return false;
    const Weight left = before + weight;
    return left >= 0 || (rows_.add(store, -left, ignored) && owed_.add(store, left, ignored));
  }
  before = rows_.weight(store);
  if (before == 0) before = owed_.weight(store);
  Weight sum;
  if (!add_weights(before, weight, sum)) return false;
  // Taking out and putting in what is held cannot overflow.
  PackedBag& from = before > 0 ? rows_ : owed_;
  PackedBag& to = sum > 0 ? rows_ : owed_;
  if (&from == &to) return to.add(store, weight, ignored);
  return to.add(store, sum, ignored) && from.add(store, -before, ignored);
}

Batch PositiveBag::all(const RowStore& store) const {
  Batch result;
  for (const PackedBag* bag : {&rows_, &owed_})
    bag->ascend(store, [&result](const PackedRow& row) {
      result.push_back(Row{row.value(), row.weight()});
      return true;
    });
  return result;
}

void PositiveBag::clear(RowStore& store) noexcept {
  rows_.clear(store);
  owed_.clear(store);
}

}  // namespace dmm::engine::internal
