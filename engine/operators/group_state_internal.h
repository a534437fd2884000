#pragma once

#include "engine/exact_sum.h"
#include "engine/operators/operators.h"
#include "engine/ordered_bag.h"

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
  OrderedBag ordered;
  OrderedBag texts{OrderedBag::Order::text};
  OrderedBag failed;      ///< values whose element cannot be evaluated
  OrderedBag not_number;  ///< values whose element is nothing that can be added
};

/// One group. Weights of members are those of the input; the folds count only what is positive.
struct GroupState {
  Value key;
  OrderedBag members;  ///< when the order of the values is needed
  Zset plain;          ///< else
  OrderedBag documents;
  std::int64_t count = 0;
  std::uint32_t touched = 0;  ///< 1 + place in the list of groups of this step
  std::vector<ElementState> elements;
  std::uint32_t hash() const noexcept { return engine::hash(key); }
  bool clean() const noexcept { return members.clean() && plain.empty() && documents.clean(); }
};

/// How the states of one group operator are kept and read.
class GroupLogic {
 public:
  explicit GroupLogic(const GroupSpec& spec);

  /// Adds a member. returns false on overflow; the group is unchanged then.
  [[nodiscard]] bool fold(GroupState& group, Scope& scope, const Value& value,
                          const Value& document, Weight weight) const;
  /// The row of a group that is not empty. returns false with the reason in the scope's failure.
  bool row(const GroupState& group, Scope& scope, Value& out) const;
  bool keeps_documents() const noexcept { return keep_documents_; }
  bool ordered() const noexcept { return ordered_; }

 private:
  [[nodiscard]] bool fold_elements(GroupState& group, Scope& scope, const Value& value,
                                   Weight change) const;
  void refold(GroupState& group, Scope& scope) const;
  Weight effective(Weight weight) const noexcept {
    return weight <= 0 ? 0 : (spec_.distinct ? 1 : weight);
  }
  bool fold_value(const GroupState& group, const AggregateSpec& aggregate, Scope& scope,
                  Value& out) const;
  bool fold_order(const GroupState& group, const OrderedBag& bag, const AggregateSpec& aggregate,
                  Scope& scope, Value& out) const;
  bool list_of(const OrderedBag& bag, Scope& scope, Value& out) const;
  bool element(std::size_t index, Scope& scope, const Value& value, Value& out) const;

  const GroupSpec& spec_;
  std::vector<ElementNeeds> needs_;
  bool ordered_ = false;
  bool keep_documents_ = false;
  bool has_elements_ = false;
  ShapePtr shape_;
  std::vector<int>
      slots_;  // for each member of the shape: -3 documents, -2 key, -1 values, else aggregate
};

}  // namespace dmm::engine::internal
