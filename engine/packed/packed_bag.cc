#include "engine/packed/packed_bag_internal.h"

namespace dmm::engine::internal {

std::size_t PackedBag::size() const noexcept {
  std::size_t sum = 0;
  for (const Chunk* chunk : chunks()) sum += chunk->count;
  return sum;
}

// The last chunk whose first row is not behind the row.
std::size_t PackedBag::chunk_for(RowStore& store) const {
  const auto all = chunks();
  std::size_t low = 0;
  for (std::size_t high = all.size(); high - low > 1;) {
    const std::size_t middle = (low + high) / 2;
    (store.order_to_first(*all[middle]) >= 0 ? low : high) = middle;
  }
  return low;
}

bool PackedBag::add(RowStore& store, Weight weight, Weight& before) {
  before = 0;
  if (empty()) {
    if (weight != 0) chunk_ = store.make(weight);
    return true;
  }
  const std::size_t index = many() ? chunk_for(store) : 0;
  Chunk*& chunk = slot(index);
  const RowStore::Place place = store.find(*chunk);
  if (!place.found) {
    if (weight == 0) return true;
    store.insert(chunk, place, weight);
    if (chunk->count > kRowsMax) split(store, index);
    return true;
  }
  before = store.at(*chunk, place.at).weight();
  Weight sum;
  if (!add_weights(before, weight, sum)) return false;
  if (sum != 0) {
    store.set_weight(chunk, place.at, sum);
    return true;
  }
  store.erase(chunk, place.at);
  if (!many()) return true;
  if (chunk == nullptr) {
    drop(index);
  } else if (index + 1 < list().size() && chunk->count < kRowsMax / 4 &&
             chunk->count + list()[index + 1]->count <= kRowsMax / 2) {
    store.merge(chunk, list()[index + 1]);
    drop(index + 1);
  }
  return true;
}

void PackedBag::split(RowStore& store, std::size_t index) {
  if (!many()) {
    auto made = std::make_unique<Chunks>(1, chunk_);
    chunk_ = reinterpret_cast<Chunk*>(reinterpret_cast<std::uintptr_t>(made.release()) + 1);
  }
  Chunks& all = list();
  all.reserve(all.size() + 1);
  // Rows that come in order fill the chunks: only the last one is then left half empty.
  Chunk*& full = all[index];
  const bool at_end = index + 1 == all.size();
  const std::uint32_t at = at_end ? kRowsMax * 3 / 4 : kRowsMax / 2;
  Chunk* upper = store.split(full, at);
  all.insert(all.begin() + static_cast<std::ptrdiff_t>(index) + 1, upper);
}

void PackedBag::drop(std::size_t index) {
  Chunks& all = list();
  all.erase(all.begin() + static_cast<std::ptrdiff_t>(index));
  if (all.size() > 1) return;
  Chunk* only = all.front();
  delete &all;
  chunk_ = only;
}

Weight PackedBag::weight(RowStore& store) const {
  if (empty()) return 0;
  const Chunk& chunk = *chunks()[many() ? chunk_for(store) : 0];
  const RowStore::Place place = store.find(chunk);
  return place.found ? store.at(chunk, place.at).weight() : 0;
}

void PackedBag::clear(RowStore& store) noexcept {
  for (std::size_t i = 0; many() && i < list().size(); ++i) store.clear(list()[i]);
  if (many())
    delete &list();
  else
    store.clear(chunk_);
  chunk_ = nullptr;
}

}  // namespace dmm::engine::internal
