#include "engine/zset.h"

#include <algorithm>

namespace dmm::engine {
namespace {

// Few rows: compare each with those kept so far.
bool consolidate_few(Batch& batch) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::uint32_t hash = batch[i].hash();
    std::size_t at = 0;
    while (at < kept && !(batch[at].hash() == hash && batch[at].value == batch[i].value)) ++at;
    if (at < kept) {
      if (!add_weights(batch[at].weight, batch[i].weight, batch[at].weight)) return false;
    } else if (at == i) {
      ++kept;
    } else {
      batch[kept++] = std::move(batch[i]);
    }
  }
  batch.resize(kept);
  return true;
}

bool consolidate_many(Batch& batch) {
  std::size_t capacity = 64;
  while (capacity < batch.size() * 2) capacity *= 2;
  const std::size_t mask = capacity - 1;
  // The table holds hash and position + 1; sums stay in the batch, zeros are dropped at the end.
  std::vector<std::uint64_t> table(capacity);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::uint32_t hash = batch[i].hash();
    std::size_t slot = hash & mask;
    for (;; slot = (slot + 1) & mask) {
      const std::uint64_t found = table[slot];
      if (found == 0) {
        if (kept != i) batch[kept] = std::move(batch[i]);
        table[slot] = (std::uint64_t{hash} << 32) | ++kept;
        break;
      }
      Row& other = batch[static_cast<std::uint32_t>(found) - 1];
      if (static_cast<std::uint32_t>(found >> 32) != hash || !(other.value == batch[i].value))
        continue;
      if (!add_weights(other.weight, batch[i].weight, other.weight)) return false;
      break;
    }
  }
  batch.resize(kept);
  return true;
}

}  // namespace

bool consolidate(Batch& batch) {
  if (batch.size() > 1 && !(batch.size() <= 12 ? consolidate_few(batch) : consolidate_many(batch)))
    return false;
  std::erase_if(batch, [](const Row& row) { return row.weight == 0; });
  return true;
}

void sort_canonical(Batch& batch) {
  std::sort(batch.begin(), batch.end(), [](const Row& a, const Row& b) {
    const int order = compare(a.value, b.value);
    return order != 0 ? order < 0 : a.weight < b.weight;
  });
}

bool Zset::add(const Value& value, Weight weight, Weight* before) {
  if (before != nullptr) *before = 0;
  if (many_) {
    const std::uint32_t hash = engine::hash(value);
    const std::uint32_t at = many_->find(hash, [&](const Row& row) { return row.value == value; });
    if (at == DenseMap<Row>::kNone) {
      if (weight != 0)
        many_->insert(Row{Value(value->kind == Kind::real ? value.canonical() : value), weight});
      return true;
    }
    Row& row = (*many_)[at];
    if (before != nullptr) *before = row.weight;
    Weight sum;
    if (!add_weights(row.weight, weight, sum)) return false;
    if (sum == 0)
      many_->erase(at);
    else
      row.weight = sum;
    return true;
  }
  const auto it =
      std::find_if(few_.begin(), few_.end(), [&](const Row& row) { return row.value == value; });
  if (it != few_.end()) {
    if (before != nullptr) *before = it->weight;
    Weight sum;
    if (!add_weights(it->weight, weight, sum)) return false;
    it->weight = sum;
    if (sum == 0) {
      *it = std::move(few_.back());
      few_.pop_back();
    }
    return true;
  }
  if (weight == 0) return true;
  if (few_.size() < kFew) {
    few_.push_back(Row{value.canonical(), weight});
    return true;
  }
  many_ = std::make_unique<DenseMap<Row>>();
  for (Row& row : few_) many_->insert(std::move(row));
  std::vector<Row>().swap(few_);
  many_->insert(Row{value.canonical(), weight});
  return true;
}

bool Zset::add(const Batch& batch) {
  for (const Row& row : batch)
    if (!add(row.value, row.weight)) return false;
  return true;
}

Weight Zset::weight(ValueRef value) const noexcept {
  if (many_) {
    const std::uint32_t at =
        many_->find(engine::hash(value), [&](const Row& row) { return equal(row.value, value); });
    return at == DenseMap<Row>::kNone ? 0 : (*many_)[at].weight;
  }
  for (const Row& row : few_)
    if (equal(row.value, value)) return row.weight;
  return 0;
}

Batch Zset::rows() const {
  Batch result;
  result.reserve(size());
  for (std::size_t i = 0; i < size(); ++i) result.push_back(row(i));
  sort_canonical(result);
  return result;
}

void Zset::clear() noexcept {
  few_.clear();
  many_.reset();
}

bool Zset::operator==(const Zset& other) const noexcept {
  if (size() != other.size()) return false;
  for (std::size_t i = 0; i < size(); ++i)
    if (other.weight(row(i).value) != row(i).weight) return false;
  return true;
}

}  // namespace dmm::engine
