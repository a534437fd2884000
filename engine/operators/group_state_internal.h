#pragma once

#include <deque>

#include "engine/exact_sum.h"
#include "engine/operators/operators.h"
#include "engine/ordered_bag.h"
#include "engine/packed/positive_bag_internal.h"

namespace dmm::engine::internal {

/// What must be kept of one element of a group's values, by the folds that read it.
struct ElementNeeds {
  bool order = false;  ///< min, max, topk, bottomk
  bool text = false;   ///< lexmin, lexmax
  bool sum = false;    ///< sum, mean
};

/// The folds of one element over one group.
struct ElementState {
  ExactSum sum;
  PositiveBag ordered;
  OrderedBag texts{OrderedBag::Order::text};
  OrderedBag failed;      ///< values whose element cannot be evaluated
  OrderedBag not_number;  ///< values whose element is nothing that can be added
};

/// What only some groups need.
struct GroupExtra {
  PositiveBag documents;
  std::vector<ElementState> elements;
};

/// One group, as the table of groups stores it. Weights of members are those of the input; the
/// folds count only what is positive. Given back by GroupLogic::clear().
struct GroupCell {
  PositiveBag members;
  std::int64_t count = 0;
  GroupExtra* extra = nullptr;
};

/// How the states of one group operator are kept and read.
class GroupLogic {
 public:
  explicit GroupLogic(const GroupSpec& spec);

  /// Adds a member; `row` holds its document. returns false on overflow; the group is unchanged
  /// then.
  [[nodiscard]] bool fold(GroupCell& group, Scope& scope, const Value& value, const Row& row,
                          Weight weight);
  /// The two parts of fold(): the value with its folds, and the document.
  [[nodiscard]] bool fold_member(GroupCell& group, Scope& scope, const Value& value, Weight weight);
  [[nodiscard]] bool add_document(GroupCell& group, ValueRef document, Weight weight);
  /// The row of a group that is not empty; null when a filter is not true of it. returns false with
  /// the reason in the scope's failure.
  bool row(ValueRef key, const GroupCell& group, Scope& scope, Value& out) const;
  /// Brings the memory near that fold() will read for this value.
  static void prefetch(const GroupCell& group, ValueRef value) noexcept {
    group.members.rows().prefetch(value);
  }
  bool keeps_documents() const noexcept { return keep_documents_; }
  bool clean(const GroupCell& group) const noexcept {
    return group.members.clean() && (group.extra == nullptr || group.extra->documents.clean());
  }
  void clear(GroupCell& group) noexcept;
  Batch members(const GroupCell& group) const { return group.members.all(values_); }
  Batch documents(const GroupCell& group) const {
    return group.extra == nullptr ? Batch() : group.extra->documents.all(documents_);
  }
  std::size_t rows() const noexcept { return values_.rows(); }
  std::size_t bytes() const noexcept {
    std::size_t bytes = values_.bytes() + documents_.bytes();
    for (const RowStore& store : elements_) bytes += store.bytes();
    return bytes;
  }

 private:
  void project_directly();
  bool part(int slot, ValueRef key, const GroupCell& group, Scope& scope, Value& out) const;
  GroupExtra& extra(GroupCell& group) const;
  [[nodiscard]] bool fold_elements(GroupCell& group, Scope& scope, const Value& value,
                                   Weight change);
  void refold(GroupCell& group, Scope& scope);
  Weight effective(Weight weight) const noexcept {
    return weight <= 0 ? 0 : (spec_.distinct ? 1 : weight);
  }
  bool fold_value(const GroupCell& group, const AggregateSpec& aggregate, Scope& scope,
                  Value& out) const;
  bool fold_order(const PackedBag& bag, const RowStore& store, const AggregateSpec& aggregate,
                  Scope& scope, Value& out) const;
  bool list_of(const PackedBag& bag, const RowStore& store, Scope& scope, Value& out) const;
  bool element(std::size_t index, Scope& scope, const Value& value, Value& out) const;

  const GroupSpec& spec_;
  RowStore values_;
  RowStore documents_;
  std::deque<RowStore> elements_;  // what their `ordered` lie in
  std::vector<ElementNeeds> needs_;
  bool keep_documents_ = false;
  bool has_elements_ = false;
  ShapePtr shape_;
  std::vector<int> slots_;  // for each member of the shape: one of these, or the aggregate
  static constexpr int kDocuments = -3;
  static constexpr int kKey = -2;
  static constexpr int kValues = -1;
  bool direct_ = false;  // the shape is that of the projection
};

}  // namespace dmm::engine::internal
