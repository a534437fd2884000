#include <algorithm>
#include <optional>

#include "engine/operators/join_internal.h"

namespace dmm::engine::internal {

namespace {

std::vector<const Path*> plain_paths(const JoinSide& side) {
  std::vector<const Path*> paths;
  for (std::size_t i = 0; i < side.keys.size(); ++i) {
    const Path* path = side.keys[i]->as_path();
    const bool direct = path != nullptr && path->is_plain() && !path->of_subject() &&
                        (side.on_document[i] || side.names.size() > 1) && side.inside.empty();
    paths.push_back(direct ? path : nullptr);
  }
  return paths;
}

}  // namespace

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
  left_paths_ = plain_paths(spec_.left);
  right_paths_ = plain_paths(spec_.right);
  for (const Value& name : shape_->keys()) {
    const std::int32_t part = left_shape_->find(name->as_string());
    parts_.push_back(part < 0 ? kRight : static_cast<std::size_t>(part));
  }
}

nlohmann::json JoinBase::describe() const {
  nlohmann::json result = {
      {"left", spec_.left.names}, {"right", spec_.right.names}, {"on", spec_.source}};
  if (spec_.only_unmatched) result["emits"] = "unmatched";
  return result;
}

Value JoinBase::compound(ValueRef left, ValueRef right) const {
  if (spec_.merge) {
    Value merged(left);
    for (std::size_t i = 0, n = right.kind == Kind::object ? right.size() : 0; i < n; ++i)
      merged = with_member(merged, right.key(i), Value(right.at(i)));
    return merged;
  }
  const bool several = spec_.left.names.size() > 1;
  return Value::object_of(*shape_, [&](std::size_t i) {
    if (parts_[i] == kRight) return Value(right);
    return Value(several ? left.at(parts_[i]) : left);
  });
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
  if (spec_.only_unmatched && right.kind != Kind::null && !spec_.residual) return true;
  Value pair = compound(left, right);
  if (matches(emit.context, pair, weight)) emit.out.push_back(Row{std::move(pair), weight});
  return true;
}

bool JoinBase::key_part(StepContext& context, const Row& row, bool left, std::size_t index,
                        Value& part) const {
  const JoinSide& side = left ? spec_.left : spec_.right;
  Value wrapped;
  if (side.on_document[index] || side.names.size() > 1) {
    ValueRef document = row.value;
    if (!side.inside.empty() && !row.value->find(side.inside, document)) return false;
    context.scope.reset(document);
  } else {
    wrapped = Value::object(left ? *left_shape_ : *right_shape_, {&row.value, 1});
    context.scope.reset(wrapped);
  }
  if (side.keys[index]->eval(context.scope, part)) return true;
  if (context.scope.failure().type == Failure::Type::other)
    context.report(row.value, context.scope.failure().message, row.weight);
  return false;
}

// False when a part is missing or cannot be evaluated: the row then matches nothing.
bool JoinBase::key_of(StepContext& context, const Row& row, bool left, Value& key) {
  const auto& paths = left ? left_paths_ : right_paths_;
  std::optional<SlotsBuilder> parts;
  if (paths.size() > 1) parts.emplace(paths.size());
  Value part;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (paths[i] != nullptr) {
      ValueRef found;
      if (!paths[i]->find(row.value, found)) return false;
      part = Value(found);
    } else if (!key_part(context, row, left, i, part)) {
      return false;
    }
    if (parts) parts->add(std::move(part));
  }
  key = parts ? parts->finish() : part.canonical();
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

/// A cell at hand. It is written back whatever happens: bags may have moved before a failure.
struct JoinBase::Held {
  Held(JoinBase& owner, ValueRef key, std::uint32_t hash)
      : join(owner), place(owner.index_.find(key, hash)) {
    if (!place) place = owner.index_.insert(hash);
    std::memcpy(static_cast<void*>(&cell), owner.index_.payload(place), owner.cell_bytes_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    std::memcpy(join.index_.payload(place), &cell, join.cell_bytes_);
    if (cell.empty()) join.index_.erase(place);
  }
  JoinBase& join;
  PackedTable::Place place;
  Cell cell;
};

std::size_t JoinBase::fold_all(Cell& cell, Rows rows, bool left, Emit& emit) {
  std::size_t done = 0;
  while (done < rows.size() && fold(cell, rows[done]->value, rows[done]->weight, left, &emit))
    ++done;
  return done;
}

// Folds all rows of the key at `applied_`: left ones, which come first, then right ones.
bool JoinBase::fold_key(Emit& emit) {
  const std::size_t end = order_.gather(applied_, keyed_, [this](std::size_t a, std::size_t b) {
    return keyed_[a].key == keyed_[b].key;
  });
  const Keyed& first = keyed_[order_[applied_]];
  Held held(*this, first.key, first.hash);
  while (applied_ < end) {
    const bool left = keyed_[order_[applied_]].left;
    alike_.clear();
    for (std::size_t i = applied_; i < end && keyed_[order_[i]].left == left; ++i)
      alike_.push_back(keyed_[order_[i]].row);
    const std::size_t done = fold_all(held.cell, alike_, left, emit);
    applied_ += done;
    if (done < alike_.size()) return false;
  }
  return true;
}

bool JoinBase::step(StepContext& context, std::span<const Batch* const> in, Batch& out) {
  Emit emit{context, out};
  evaluate_keys(context, *in[0], true, out);
  evaluate_keys(context, *in[1], false, out);
  order_.assign(keyed_.size(), [this](std::size_t i) { return keyed_[i].hash; });
  while (applied_ < order_.size()) {
    index_.prefetch_ahead(applied_, order_.size(),
                          [this](std::size_t i) { return order_.hash(i); });
    prefetch_rows();
    if (!fold_key(emit)) return false;
  }
  return true;
}

// Rows are folded by key, so each of them may be far from the one before.
void JoinBase::prefetch_rows() const noexcept {
  constexpr std::size_t kDistance = 6;
  const std::size_t ahead = applied_ + kDistance;
  if (ahead + kDistance < order_.size()) __builtin_prefetch(keyed_[order_[ahead + kDistance]].row);
  if (ahead >= order_.size()) return;
  const ValueRef document = keyed_[order_[ahead]].row->value;
  if (counted(document.kind)) __builtin_prefetch(reinterpret_cast<const void*>(document.bits));
}

void JoinBase::unfold(const Keyed& keyed) noexcept {
  Held held(*this, keyed.key, keyed.hash);
  if (Weight back; negate_weight(keyed.row->weight, back))
    static_cast<void>(fold(held.cell, keyed.row->value, back, keyed.left, nullptr));
}

void JoinBase::rollback() noexcept {
  for (; applied_ > 0; --applied_) unfold(keyed_[order_[applied_ - 1]]);
  commit();
}

void JoinBase::commit() noexcept {
  clear_buffer(keyed_);
  order_.clear();
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
  commit();
}

std::size_t JoinBase::state_rows() const noexcept {
  return left_rows_.rows() + right_rows_.rows();
}

std::size_t JoinBase::state_bytes() const noexcept {
  return left_rows_.bytes() + right_rows_.bytes() + match_rows_.bytes() + index_.bytes();
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
    const std::size_t names = spec_.left.names.size();
    if (names == 1) continue;
    for (const Row& row : rows_of(cell.left, left_rows_))
      if (row.value.kind() != Kind::object || row.value->size() != names) return false;
  }
  return reader.ok();
}

}  // namespace dmm::engine::internal
