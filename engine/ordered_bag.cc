#include "engine/ordered_bag.h"

#include <algorithm>

namespace dmm::engine {

// The last chunk whose first row is not behind the value.
std::size_t OrderedBag::chunk_for(const Value& value) const {
  std::size_t low = 0;
  std::size_t high = chunks_.size();
  while (high - low > 1) {
    const std::size_t middle = (low + high) / 2;
    if (order(chunks_[middle].front().value, value) <= 0)
      low = middle;
    else
      high = middle;
  }
  return low;
}

std::size_t OrderedBag::position_in(std::size_t chunk, const Value& value) const {
  const auto& rows = chunks_[chunk];
  const auto it =
      std::lower_bound(rows.begin(), rows.end(), value,
                       [this](const Row& row, const Value& v) { return order(row.value, v) < 0; });
  return static_cast<std::size_t>(it - rows.begin());
}

bool OrderedBag::add(const Value& value, Weight weight, Weight& before) {
  before = 0;
  if (chunks_.empty()) {
    if (owed_ || weight <= 0) return owe(value, weight, before);
    chunks_.emplace_back();
    chunks_.front().push_back(Row{value.canonical(), weight});
    return true;
  }
  const std::size_t chunk = chunk_for(value);
  const std::size_t at = position_in(chunk, value);
  if (at == chunks_[chunk].size() || order(chunks_[chunk][at].value, value) != 0) {
    if (owed_ || weight <= 0) return owe(value, weight, before);
    insert(chunk, at, value, weight);
    return true;
  }
  Row& row = chunks_[chunk][at];
  before = row.weight;
  Weight sum;
  if (!add_weights(row.weight, weight, sum)) return false;
  if (sum > 0) {
    row.weight = sum;
    return true;
  }
  const Value kept = row.value;
  erase(chunk, at);
  Weight nothing;
  return sum == 0 || owe(kept, sum, nothing);
}

// The value is not among the positive rows: settle with what is owed first.
bool OrderedBag::owe(const Value& value, Weight weight, Weight& before) {
  before = owed_ ? owed_->weight(value) : 0;
  Weight sum;
  if (!add_weights(before, weight, sum)) return false;
  if (sum == before) return true;
  if (!owed_) owed_ = std::make_unique<Zset>();
  // Weights of opposite sign and of one that is held: neither addition can overflow.
  const Weight settled = sum < 0 ? weight : -before;
  const bool ok = owed_->add(value, settled);
  if (owed_->empty()) owed_.reset();
  if (!ok || sum <= 0) return ok;
  if (chunks_.empty()) {
    chunks_.emplace_back();
    chunks_.front().push_back(Row{value.canonical(), sum});
    return true;
  }
  const std::size_t chunk = chunk_for(value);
  insert(chunk, position_in(chunk, value), value, sum);
  return true;
}

void OrderedBag::insert(std::size_t chunk, std::size_t at, const Value& value, Weight weight) {
  auto& rows = chunks_[chunk];
  rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(at), Row{value.canonical(), weight});
  if (rows.size() <= kChunk) return;
  std::vector<Row> upper(std::make_move_iterator(rows.begin() + kChunk / 2),
                         std::make_move_iterator(rows.end()));
  rows.resize(kChunk / 2);
  chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(chunk) + 1, std::move(upper));
}

void OrderedBag::erase(std::size_t chunk, std::size_t at) {
  auto& rows = chunks_[chunk];
  rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(at));
  if (rows.empty()) {
    chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(chunk));
    return;
  }
  if (rows.size() > kChunk / 4 || chunk + 1 >= chunks_.size()) return;
  auto& next = chunks_[chunk + 1];
  if (rows.size() + next.size() > kChunk / 2) return;
  rows.insert(rows.end(), std::make_move_iterator(next.begin()),
              std::make_move_iterator(next.end()));
  chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(chunk) + 1);
}

Batch OrderedBag::rows() const {
  Batch result;
  ascend([&result](const Row& row) {
    result.push_back(row);
    return true;
  });
  if (owed_)
    for (std::size_t i = 0; i < owed_->size(); ++i) result.push_back(owed_->row(i));
  return result;
}

}  // namespace dmm::engine
