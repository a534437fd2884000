#include "engine/operators/group_state_internal.h"

#include <algorithm>
#include <utility>

#include "engine/expression/builtins_internal.h"
#include "engine/expression/coerce_internal.h"
#include "engine/limits.h"

namespace dmm::engine::internal {

using Fold = AggregateSpec::Fold;

GroupLogic::GroupLogic(const GroupSpec& spec) : spec_(spec), needs_(spec.elements.size()) {
  for (const AggregateSpec& aggregate : spec.aggregates) {
    ElementNeeds& needs = needs_[aggregate.source];
    switch (aggregate.fold) {
      case Fold::count:
        break;
      case Fold::sum:
      case Fold::mean:
        needs.sum = true;
        break;
      case Fold::lexmin:
      case Fold::lexmax:
        needs.text = true;
        break;
      default:
        needs.order = true;
    }
  }
  // The values themselves serve the folds that need their order; no second bag then.
  needs_[0].order = false;
  for (std::size_t i = 0; i < needs_.size(); ++i) elements_.emplace_back();
  keep_documents_ = spec.documents;
  for (std::size_t i = 0; i < needs_.size(); ++i)
    has_elements_ = has_elements_ || i > 0 || needs_[i].sum || needs_[i].text;
  std::vector<std::pair<std::string, int>> members = {{"key", kKey}};
  if (spec.values) members.emplace_back("values", kValues);
  if (spec.documents) members.emplace_back("documents", kDocuments);
  for (std::size_t i = 0; i < spec.aggregates.size(); ++i)
    members.emplace_back("@" + std::to_string(i), static_cast<int>(i));
  std::sort(members.begin(), members.end());
  std::vector<Value> keys;
  for (const auto& [name, slot] : members) {
    keys.push_back(Value::string(name));
    slots_.push_back(slot);
  }
  shape_ = ShapePtr(Shape::make(std::move(keys)));
  project_directly();
}

// A projection that only names parts of the row is made of them; the row itself is then never made.
void GroupLogic::project_directly() {
  std::span<const ExpressionPtr> members;
  const Shape* shape = spec_.projection ? spec_.projection->as_object(members) : nullptr;
  if (shape == nullptr || !spec_.filters.empty()) return;
  std::vector<int> slots;
  for (const ExpressionPtr& member : members) {
    const Path* path = member->as_path();
    const auto names = path == nullptr ? std::nullopt : path->members();
    if (!names || names->size() != 1 || path->of_subject()) return;
    const std::int32_t slot = shape_->find(names->front());
    if (slot < 0) return;
    slots.push_back(slots_[static_cast<std::size_t>(slot)]);
  }
  slots_ = std::move(slots);
  shape_ = ShapePtr::share(*shape);
  direct_ = true;
}

bool GroupLogic::element(std::size_t index, Scope& scope, const Value& value, Value& out) const {
  if (index == 0) {
    out = value;
    return true;
  }
  scope.reset({});
  scope.set_subject(value);
  return spec_.elements[index]->eval(scope, out);
}

GroupExtra& GroupLogic::extra(GroupCell& group) const {
  if (group.extra == nullptr) {
    auto made = std::make_unique<GroupExtra>();
    if (has_elements_) made->elements.resize(needs_.size());
    group.extra = made.release();
  }
  return *group.extra;
}

bool GroupLogic::fold_elements(GroupCell& group, Scope& scope, const Value& value, Weight change) {
  Weight ignored;
  for (std::size_t i = 0; i < needs_.size(); ++i) {
    ElementState& state = extra(group).elements[i];
    Value item;
    if (!element(i, scope, value, item)) {
      if (!state.failed.add(value, change, ignored)) return false;
      continue;
    }
    if (needs_[i].order) {
      elements_[i].look(item);
      if (!state.ordered.add(elements_[i], change, ignored)) return false;
    }
    if (needs_[i].text && !state.texts.add(item, change, ignored)) return false;
    if (!needs_[i].sum) continue;
    Value number;
    const bool ok = to_number(scope, item, number) ? state.sum.add(number, change)
                                                   : state.not_number.add(item, change, ignored);
    if (!ok) return false;
  }
  return true;
}

bool GroupLogic::add_document(GroupCell& group, ValueRef document, Weight weight) {
  Weight ignored;
  documents_.look(document);
  return extra(group).documents.add(documents_, weight, ignored);
}

bool GroupLogic::fold(GroupCell& group, Scope& scope, const Value& value, const Row& row,
                      Weight weight) {
  if (keep_documents_ && !add_document(group, row.value, weight)) return false;
  if (fold_member(group, scope, value, weight)) return true;
  // The opposite of an addition that has just been possible.
  if (keep_documents_) static_cast<void>(add_document(group, row.value, -weight));
  return false;
}

bool GroupLogic::fold_member(GroupCell& group, Scope& scope, const Value& value, Weight weight) {
  Weight before;
  values_.look(value);
  if (!group.members.add(values_, weight, before)) return false;
  const Weight change = effective(before + weight) - effective(before);
  Weight count;
  const bool counted = add_weights(group.count, change, count);
  if (counted && (change == 0 || !has_elements_ || fold_elements(group, scope, value, change))) {
    group.count = count;
    return true;
  }
  values_.look(value);
  static_cast<void>(group.members.add(values_, -weight, before));
  if (counted) refold(group, scope);
  return false;
}

// After an addition that stopped half-way: makes the folds again from the members. O(group).
void GroupLogic::refold(GroupCell& group, Scope& scope) {
  for (std::size_t i = 0; i < needs_.size(); ++i) {
    ElementState& state = extra(group).elements[i];
    state.ordered.clear(elements_[i]);
    state = ElementState();
  }
  for (const Row& row : members(group))
    if (const Weight copies = effective(row.weight); copies != 0)
      static_cast<void>(fold_elements(group, scope, row.value, copies));
}

void GroupLogic::clear(GroupCell& group) noexcept {
  group.members.clear(values_);
  if (group.extra == nullptr) return;
  group.extra->documents.clear(documents_);
  for (std::size_t i = 0; i < group.extra->elements.size(); ++i)
    group.extra->elements[i].ordered.clear(elements_[i]);
  delete group.extra;
  group.extra = nullptr;
}

bool GroupLogic::list_of(const PackedBag& bag, const RowStore& store, Scope& scope,
                         Value& out) const {
  constexpr std::size_t kFew = 64;
  Value few[kFew];
  std::vector<Value> many;
  std::size_t size = 0;
  bool fits = true;
  bag.ascend(store, [&](const PackedRow& row) {
    const Value value = row.value();
    const Weight copies = spec_.distinct ? 1 : row.weight();
    fits = copies <= limits::kGroupItemsMax - static_cast<Weight>(size);
    for (Weight i = 0; fits && i < copies; ++i, ++size) {
      if (size < kFew) {
        few[size] = value;
        continue;
      }
      if (size == kFew) many.assign(few, few + kFew);
      many.push_back(value);
    }
    return fits;
  });
  if (!fits)
    return scope.fail("the list of a group is longer than the limit of " +
                      std::to_string(limits::kGroupItemsMax));
  out = size <= kFew ? Value::list({few, size}) : Value::list(many);
  return true;
}

bool GroupLogic::fold_order(const PackedBag& bag, const RowStore& store,
                            const AggregateSpec& aggregate, Scope& scope, Value& out) const {
  if (aggregate.fold == Fold::min || aggregate.fold == Fold::max) {
    // Numbers are neighbours in the canonical order: if both ends are numbers, all are.
    Value first = bag.first(store).value();
    Value last = bag.last(store).value();
    if (!first->is_number()) return not_numeric(scope, first);
    if (!last->is_number()) return not_numeric(scope, last);
    out = aggregate.fold == Fold::min ? std::move(first) : std::move(last);
    return true;
  }
  std::vector<Value> items;
  const bool distinct = spec_.distinct && &store == &values_;
  const auto take = [&](const PackedRow& row) {
    const Value value = row.value();
    for (Weight i = 0; i < (distinct ? 1 : row.weight()); ++i) {
      if (static_cast<std::int64_t>(items.size()) >= aggregate.k) return false;
      items.push_back(value);
    }
    return static_cast<std::int64_t>(items.size()) < aggregate.k;
  };
  if (aggregate.fold == Fold::topk)
    bag.descend(store, take);
  else
    bag.ascend(store, take);
  out = Value::list(items);
  return true;
}

bool GroupLogic::fold_value(const GroupCell& group, const AggregateSpec& aggregate, Scope& scope,
                            Value& out) const {
  if (aggregate.fold == Fold::count && aggregate.source == 0) {
    out = Value::integer(group.count);
    return true;
  }
  if (!has_elements_) return fold_order(group.members.rows(), values_, aggregate, scope, out);
  const ElementState& state = group.extra->elements[aggregate.source];
  Value item;
  if (!state.failed.empty() && !element(aggregate.source, scope, state.failed.first(), item))
    return false;
  switch (aggregate.fold) {
    case Fold::count:
      out = Value::integer(group.count);
      return true;
    case Fold::sum:
    case Fold::mean:
      if (!state.not_number.empty()) return to_number(scope, state.not_number.first(), item);
      if (aggregate.fold == Fold::sum) return state.sum.sum(out) || scope.fail("sum out of range");
      return state.sum.mean(group.count, out) || scope.fail("mean out of range");
    case Fold::lexmin:
      out = state.texts.first();
      return true;
    case Fold::lexmax:
      out = state.texts.last();
      return true;
    default:
      break;
  }
  if (aggregate.source == 0)
    return fold_order(group.members.rows(), values_, aggregate, scope, out);
  return fold_order(state.ordered.rows(), elements_[aggregate.source], aggregate, scope, out);
}

bool GroupLogic::part(int slot, ValueRef key, const GroupCell& group, Scope& scope,
                      Value& out) const {
  switch (slot) {
    case kDocuments:
      return list_of(group.extra == nullptr ? PackedBag() : group.extra->documents.rows(),
                     documents_, scope, out);
    case kKey:
      out = Value(key);
      return true;
    case kValues:
      return list_of(group.members.rows(), values_, scope, out);
    default:
      return fold_value(group, spec_.aggregates[static_cast<std::size_t>(slot)], scope, out);
  }
}

bool GroupLogic::row(ValueRef key, const GroupCell& group, Scope& scope, Value& out) const {
  SlotsBuilder builder(*shape_);
  for (const int slot : slots_) {
    Value value;
    if (!part(slot, key, group, scope, value)) return false;
    builder.add(std::move(value));
  }
  out = builder.finish();
  if (direct_ || (spec_.filters.empty() && !spec_.projection)) return true;
  const Value row = std::exchange(out, Value());
  for (const ExpressionPtr& filter : spec_.filters) {
    bool failed;
    scope.reset(row);
    if (!eval_predicate(*filter, scope, failed)) return !failed;
  }
  scope.reset(row);
  if (spec_.projection) return spec_.projection->eval(scope, out);
  out = row;
  return true;
}

}  // namespace dmm::engine::internal
