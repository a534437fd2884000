/// Z-sets: values with integer weights, and batches of changes to them.
#pragma once

#include <memory>
#include <vector>

#include "engine/dense_map.h"
#include "engine/value.h"
#include "engine/weight.h"

namespace dmm::engine {

/// One element with its weight.
struct Row {
  Value value;
  Weight weight = 0;
  std::uint32_t hash() const noexcept { return engine::hash(value); }
};

/// A list of rows: the sum of its rows is the Z-set that it means. A value may occur repeatedly.
using Batch = std::vector<Row>;

/// Empties a buffer that the next step uses again. What an unusually large step made it hold is
/// given back.
template <class Item>
void clear_buffer(std::vector<Item>& buffer) noexcept {
  constexpr std::size_t kKept = 8192;
  if (buffer.capacity() > kKept)
    std::vector<Item>().swap(buffer);
  else
    buffer.clear();
}

/// Sums the weights of equal values and drops zeros; the order is that of the first occurrence.
/// returns false when a weight overflows (the batch is then unspecified). O(rows).
[[nodiscard]] bool consolidate(Batch& batch);

/// Puts a batch into the canonical order of values.
void sort_canonical(Batch& batch);

/// A Z-set with lookup by value.
///
/// Invariants: no element has weight 0; every weight fits into int64. Small ones are a plain list,
/// larger ones a hash map. All operations O(1) but for those that name all elements.
class Zset {
 public:
  Zset() = default;
  Zset(Zset&&) noexcept = default;
  Zset& operator=(Zset&&) noexcept = default;

  /// Adds `weight` to the weight of `value`; `before` receives the old weight when it is given.
  /// returns false on overflow, and changes nothing then.
  [[nodiscard]] bool add(const Value& value, Weight weight, Weight* before = nullptr);
  [[nodiscard]] bool add(const Batch& batch);
  /// The weight of `value`, 0 when it is not an element.
  Weight weight(ValueRef value) const noexcept;
  std::size_t size() const noexcept { return many_ ? many_->size() : few_.size(); }
  bool empty() const noexcept { return size() == 0; }
  /// Element `index` in no defined order; index < size().
  const Row& row(std::size_t index) const noexcept {
    return many_ ? (*many_)[static_cast<std::uint32_t>(index)] : few_[index];
  }
  /// All elements in canonical order.
  Batch rows() const;
  void clear() noexcept;
  /// Same elements with the same weights.
  bool operator==(const Zset& other) const noexcept;

 private:
  static constexpr std::size_t kFew = 16;
  std::vector<Row> few_;
  std::unique_ptr<DenseMap<Row>> many_;
};

}  // namespace dmm::engine
