#include <algorithm>

#include "engine/operators/join_internal.h"

namespace dmm::engine::internal {

JoinBase::JoinBase(JoinSpec&& spec, std::size_t cell_bytes)
    : spec_(std::move(spec)), cell_bytes_(cell_bytes), index_(cell_bytes) {
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

bool JoinBase::emit_pair(Emit& emit, ValueRef left, ValueRef right, Weight a, Weight b) const {
  Weight weight;
  if (!multiply_weights(a, b, weight)) return emit.context.overflow();
  Value pair = compound(left, right);
  if (matches(emit.context, pair, weight)) emit.out.push_back(Row{std::move(pair), weight});
  return true;
}

// False when a part is missing or cannot be evaluated: the row then matches nothing.
bool JoinBase::key_of(StepContext& context, const Row& row, bool left, Value& key) {
  const JoinSide& side = left ? spec_.left : spec_.right;
  if (side.keys.empty()) {
    key = Value();
    return true;
  }
  const bool several = side.keys.size() > 1;
  if (several) parts_.resize(side.keys.size());
  Value wrapped;
  for (std::size_t i = 0; i < side.keys.size(); ++i) {
    Value& part = several ? parts_[i] : key;
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
  key = several ? Value::list(parts_) : key.canonical();
  return true;
}

void JoinBase::evaluate_keys(StepContext& context, const Batch& batch, bool left, Batch& out) {
  for (const Row& row : batch) {
    Keyed keyed{{}, 0, left, &row};
    if (key_of(context, row, left, keyed.key)) {
      keyed.hash = hash(keyed.key);
      keyed_.push_back(std::move(keyed));
    } else if (left) {
      keyless(row, out);
    }
  }
}

// Adds the row to the cell of its key. The cell is written back whatever happens: bags may have
// moved before a failure.
bool JoinBase::fold_one(const Keyed& keyed, Weight weight, Emit* emit) {
  PackedTable::Place place = index_.find(keyed.key, keyed.hash);
  if (!place) place = index_.insert(keyed.hash);
  struct Held {
    std::uint8_t* at;
    std::size_t bytes;
    Cell cell{};
    Held(std::uint8_t* payload, std::size_t size) : at(payload), bytes(size) {
      std::memcpy(static_cast<void*>(&cell), at, bytes);
    }
    ~Held() { std::memcpy(at, &cell, bytes); }
  };
  bool empty;
  bool ok;
  {
    Held held(index_.payload(place), cell_bytes_);
    ok = fold(held.cell, keyed.row->value, weight, keyed.left, emit);
    empty = held.cell.empty();
  }
  if (empty) index_.erase(place);
  return ok;
}

bool JoinBase::step(StepContext& context, std::span<const Batch* const> in, Batch& out) {
  Emit emit{context, out};
  evaluate_keys(context, *in[0], true, out);
  evaluate_keys(context, *in[1], false, out);
  for (; applied_ < keyed_.size(); ++applied_) {
    index_.prefetch_ahead(applied_, keyed_.size(),
                          [this](std::size_t i) { return keyed_[i].hash; });
    if (!fold_one(keyed_[applied_], keyed_[applied_].row->weight, &emit)) return false;
  }
  return true;
}

void JoinBase::rollback() noexcept {
  for (; applied_ > 0; --applied_) {
    const Keyed& keyed = keyed_[applied_ - 1];
    Weight back;
    if (negate_weight(keyed.row->weight, back)) static_cast<void>(fold_one(keyed, back, nullptr));
  }
  clear_buffer(keyed_);
}

void JoinBase::commit() noexcept {
  clear_buffer(keyed_);
  applied_ = 0;
}

void JoinBase::reset() {
  index_.each([this](const PackedRow&, const std::uint8_t* payload) {
    Cell cell;
    std::memcpy(static_cast<void*>(&cell), payload, cell_bytes_);
    cell.left.clear(left_rows_);
    cell.right.clear(right_rows_);
    cell.matches.clear(match_rows_);
  });
  index_.clear();
  clear_buffer(keyed_);
  applied_ = 0;
}

std::size_t JoinBase::state_rows() const noexcept {
  return left_rows_.rows() + right_rows_.rows();
}

Batch JoinBase::rows_of(const PackedBag& bag, const RowStore& store) const {
  Batch rows;
  bag.ascend(store, [&rows](const PackedRow& row) {
    rows.push_back(Row{row.value(), row.weight()});
    return true;
  });
  return rows;
}

void JoinBase::save(StateWriter& writer) const {
  writer.number(index_.size());
  index_.each([&](const PackedRow& key, const std::uint8_t* payload) {
    Cell cell;
    std::memcpy(static_cast<void*>(&cell), payload, cell_bytes_);
    writer.value(key.value());
    writer.batch(rows_of(cell.left, left_rows_));
    writer.batch(rows_of(cell.right, right_rows_));
    writer.batch(rows_of(cell.matches, match_rows_));
    writer.integer(cell.positives);
  });
}

bool JoinBase::load(StateReader& reader) {
  reset();
  const auto fill = [&reader](PackedBag& bag, RowStore& store) {
    for (const Row& row : reader.batch()) {
      Weight before;
      store.look(row.value);
      if (row.weight == 0 || !bag.add(store, row.weight, before) || before != 0) return false;
    }
    return reader.ok();
  };
  for (std::uint64_t i = 0, n = reader.number(); reader.ok() && i < n; ++i) {
    const Value key = reader.value();
    if (!reader.ok() || index_.find(key)) return false;
    const PackedTable::Place place = index_.insert(hash(key));
    Cell cell;
    const bool ok = fill(cell.left, left_rows_) && fill(cell.right, right_rows_) &&
                    fill(cell.matches, match_rows_);
    cell.positives = reader.integer();
    std::memcpy(index_.payload(place), &cell, cell_bytes_);
    if (cell_bytes_ < sizeof(Cell)) cell.matches.clear(match_rows_);
    if (!ok || !reader.ok() || cell.empty()) return false;
    if (left_slots_.size() == 1) continue;
    for (const Row& row : rows_of(cell.left, left_rows_))
      if (row.value.kind() != Kind::object || row.value->size() != left_slots_.size()) return false;
  }
  return reader.ok();
}

}  // namespace dmm::engine::internal
