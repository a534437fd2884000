/// OrderedBag: a Z-set whose positive part is kept in order, for min, max, top-k and sorted lists.
#pragma once

#include <memory>
#include <vector>

#include "engine/zset.h"

namespace dmm::engine {

/// Values in order with positive weights; values that are owed (negative weight) wait aside.
///
/// The order is the canonical one, or that of the JSON texts. Adding and removing is
/// O(log n + chunk) with chunks of at most 128 rows; first and last are O(1).
class OrderedBag {
 public:
  enum class Order : std::uint8_t { canonical, text };
  explicit OrderedBag(Order order = Order::canonical) noexcept : order_(order) {}

  /// Adds `weight` to the weight of `value`; `before` receives its old weight.
  /// returns false on overflow, and changes nothing then.
  [[nodiscard]] bool add(const Value& value, Weight weight, Weight& before);
  /// True when no value has a positive weight.
  bool empty() const noexcept { return chunks_.empty(); }
  /// True when there is nothing at all, not even something owed.
  bool clean() const noexcept { return chunks_.empty() && !owed_; }
  const Value& first() const noexcept { return chunks_.front().front().value; }
  const Value& last() const noexcept { return chunks_.back().back().value; }
  /// Calls visit(row) in ascending order until it returns false.
  template <class Visit>
  void ascend(const Visit& visit) const {
    for (const auto& chunk : chunks_)
      for (const Row& row : chunk)
        if (!visit(row)) return;
  }
  /// Calls visit(row) in descending order until it returns false.
  template <class Visit>
  void descend(const Visit& visit) const {
    for (auto chunk = chunks_.rbegin(); chunk != chunks_.rend(); ++chunk)
      for (auto row = chunk->rbegin(); row != chunk->rend(); ++row)
        if (!visit(*row)) return;
  }
  /// Every row, owed ones included, in no defined order: what a state image stores.
  Batch rows() const;

 private:
  static constexpr std::size_t kChunk = 128;
  int order(ValueRef a, ValueRef b) const {
    return order_ == Order::canonical ? compare(a, b) : compare_text(a, b);
  }
  std::size_t chunk_for(const Value& value) const;
  std::size_t position_in(std::size_t chunk, const Value& value) const;
  void insert(std::size_t chunk, std::size_t at, const Value& value, Weight weight);
  void erase(std::size_t chunk, std::size_t at);
  [[nodiscard]] bool owe(const Value& value, Weight weight, Weight& before);

  std::vector<std::vector<Row>> chunks_;
  std::unique_ptr<Zset> owed_;
  Order order_;
};

}  // namespace dmm::engine
