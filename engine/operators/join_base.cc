#include <algorithm>

#include "engine/operators/join_internal.h"

namespace dmm::engine::internal {

JoinBase::JoinBase(JoinSpec spec) : spec_(std::move(spec)) {
  std::vector<Value> keys;
  for (const std::string& name : spec_.left.names) keys.push_back(Value::string(name));
  std::sort(keys.begin(), keys.end(),
            [](const Value& a, const Value& b) { return compare(a, b) < 0; });
  left_shape_ = ShapePtr(Shape::make(keys));
  right_shape_ = ShapePtr(Shape::make({Value::string(spec_.right.names.front())}));
  keys.push_back(Value::string(spec_.right.names.front()));
  std::sort(keys.begin(), keys.end(),
            [](const Value& a, const Value& b) { return compare(a, b) < 0; });
  shape_ = ShapePtr(Shape::make(std::move(keys)));
  for (std::size_t i = 0; i < left_shape_->size(); ++i)
    left_slots_.push_back(static_cast<std::size_t>(shape_->find(left_shape_->key(i))));
  right_slot_ = static_cast<std::size_t>(shape_->find(spec_.right.names.front()));
}

nlohmann::json JoinBase::describe() const {
  return {{"left", spec_.left.names}, {"right", spec_.right.names}, {"on", spec_.source}};
}

Value JoinBase::compound(ValueRef left, ValueRef right) const {
  if (spec_.merge) {
    Value merged(left);
    for (std::size_t i = 0, n = right.kind == Kind::object ? right.size() : 0; i < n; ++i)
      merged = with_member(merged, right.key(i), Value(right.at(i)));
    return merged;
  }
  constexpr std::size_t kFew = 4;
  Value few[kFew];
  std::vector<Value> many;
  Value* values = few;
  if (shape_->size() > kFew) {
    many.resize(shape_->size());
    values = many.data();
  }
  if (left_slots_.size() == 1)
    values[left_slots_[0]] = Value(left);
  else
    for (std::size_t i = 0; i < left_slots_.size(); ++i) values[left_slots_[i]] = Value(left.at(i));
  values[right_slot_] = Value(right);
  return Value::object(*shape_, {values, shape_->size()});
}

bool JoinBase::matches(StepContext& context, const Value& pair, Weight weight) const {
  if (!spec_.residual) return true;
  bool failed;
  context.scope.reset(pair);
  const bool result = eval_predicate(*spec_.residual, context.scope, failed);
  if (failed && weight != 0) context.report(pair, context.scope.failure().message, weight);
  return result;
}

bool JoinBase::emit_pair(Emit& emit, const Value& left, const Value& right, Weight a,
                         Weight b) const {
  Weight weight;
  if (!multiply_weights(a, b, weight)) return emit.context.overflow();
  Value pair = compound(left, right);
  if (matches(emit.context, pair, weight)) emit.out.push_back(Row{std::move(pair), weight});
  return true;
}

// False when a part is missing or cannot be evaluated: the row then matches nothing.
bool JoinBase::key_of(StepContext& context, const Row& row, bool left, Value& key) const {
  const JoinSide& side = left ? spec_.left : spec_.right;
  if (side.keys.empty()) {
    key = Value();
    return true;
  }
  std::vector<Value> parts(side.keys.size() > 1 ? side.keys.size() : 0);
  Value wrapped;
  for (std::size_t i = 0; i < side.keys.size(); ++i) {
    Value& part = parts.empty() ? key : parts[i];
    if (side.on_document[i] || side.names.size() > 1) {
      ValueRef document = row.value;
      if (!side.inside.empty() && !row.value->find(side.inside, document)) return false;
      context.scope.reset(document);
    } else {
      if (wrapped->is_null())
        wrapped = Value::object(left ? *left_shape_ : *right_shape_, {&row.value, 1});
      context.scope.reset(wrapped);
    }
    if (!side.keys[i]->eval(context.scope, part)) {
      if (context.scope.failure().type == Failure::Type::other)
        context.report(row.value, context.scope.failure().message, row.weight);
      return false;
    }
  }
  key = parts.empty() ? key.canonical() : Value::list(parts);
  return true;
}

std::uint32_t JoinBase::entry_of(const Value& key) {
  const std::uint32_t at =
      index_.find(hash(key), [&](const Entry& entry) { return entry.key == key; });
  if (at != DenseMap<Entry>::kNone) return at;
  Entry entry;
  entry.key = key;
  return index_.insert(std::move(entry));
}

bool JoinBase::fold_batch(StepContext& context, const Batch& batch, bool left, Batch& out) {
  Emit emit{context, out};
  for (const Row& row : batch) {
    Value key;
    if (!key_of(context, row, left, key)) {
      if (left) keyless(row, out);
      continue;
    }
    const std::uint32_t at = entry_of(key);
    Entry& entry = index_[at];
    const std::size_t before = entry.left.size() + entry.right.size();
    const bool ok = fold(entry, row, left, &emit);
    rows_ += entry.left.size() + entry.right.size() - before;
    if (entry.empty()) index_.erase(at);
    if (!ok) return false;
    applied_.push_back(Applied{std::move(key), row, left});
  }
  return true;
}

bool JoinBase::step(StepContext& context, std::span<const Batch* const> in, Batch& out) {
  return fold_batch(context, *in[0], true, out) && fold_batch(context, *in[1], false, out);
}

void JoinBase::rollback() noexcept {
  for (auto applied = applied_.rbegin(); applied != applied_.rend(); ++applied) {
    Row back = applied->row;
    if (!negate_weight(back.weight, back.weight)) continue;
    const std::uint32_t at = entry_of(applied->key);
    Entry& entry = index_[at];
    const std::size_t before = entry.left.size() + entry.right.size();
    static_cast<void>(fold(entry, back, applied->left, nullptr));
    rows_ += entry.left.size() + entry.right.size() - before;
    if (entry.empty()) index_.erase(at);
  }
  applied_.clear();
}

void JoinBase::commit() noexcept {
  applied_.clear();
}

void JoinBase::reset() {
  index_.clear();
  applied_.clear();
  rows_ = 0;
}

std::size_t JoinBase::state_rows() const noexcept {
  return rows_;
}

void JoinBase::save(StateWriter& writer) const {
  writer.number(index_.size());
  for (std::uint32_t i = 0; i < index_.size(); ++i) {
    writer.value(index_[i].key);
    writer.zset(index_[i].left);
    writer.zset(index_[i].right);
    writer.zset(index_[i].matches);
    writer.integer(index_[i].positives);
  }
}

bool JoinBase::load(StateReader& reader) {
  reset();
  for (std::uint64_t i = 0, n = reader.number(); reader.ok() && i < n; ++i) {
    Entry entry;
    entry.key = reader.value();
    if (!reader.zset(entry.left) || !reader.zset(entry.right) || !reader.zset(entry.matches))
      return false;
    entry.positives = reader.integer();
    rows_ += entry.left.size() + entry.right.size();
    const Value key = entry.key;
    if (index_.find(hash(key), [&](const Entry& other) { return other.key == key; }) !=
        DenseMap<Entry>::kNone)
      return false;
    if (left_slots_.size() > 1)
      for (std::size_t r = 0; r < entry.left.size(); ++r)
        if (entry.left.row(r).value.kind() != Kind::object ||
            entry.left.row(r).value->size() != left_slots_.size())
          return false;
    index_.insert(std::move(entry));
  }
  return reader.ok();
}

}  // namespace dmm::engine::internal
