#include "engine/packed/packed_bag_internal.h"

#include <algorithm>
#include <bit>

namespace dmm::engine::internal {

namespace {

// A number that is never larger for a row that comes earlier in the canonical order; equal ones say
// nothing. Numbers by value, strings by their first bytes, lists by their first element.
std::uint64_t order_head(ValueRef row) noexcept {
  constexpr int kRankBits = 3;
  std::uint64_t rank = 0;
  std::uint64_t content = 0;
  switch (row.kind) {
    case Kind::null:
      break;
    case Kind::boolean:
      rank = 1;
      content = row.as_bool() ? ~std::uint64_t{0} : 0;
      break;
    case Kind::integer:
    case Kind::real: {
      constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
      const auto bits = std::bit_cast<std::uint64_t>(row.as_double() + 0.0);  // -0.0 is 0
      rank = 2;
      content = (bits & kSign) != 0 ? ~bits : bits | kSign;
      break;
    }
    case Kind::string:
      rank = 3;
      for (const char byte : row.as_string().substr(0, sizeof content))
        content = (content << 8) | static_cast<unsigned char>(byte);
      content <<= 8 * (sizeof content - std::min(sizeof content, row.as_string().size())) % 64;
      break;
    case Kind::list:
      rank = 4;
      if (row.size() != 0) content = order_head(row.at(0));
      break;
    case Kind::object:
      rank = 5;
  }
  return (rank << (64 - kRankBits)) | (content >> kRankBits);
}

// The last of ascending numbers, the first of which is 0, that is not above `limit`.
std::size_t last_up_to(std::span<const std::uint64_t> heads, std::uint64_t limit) noexcept {
  const std::uint64_t* at = heads.data();
  for (std::size_t size = heads.size(); size > 1;) {
    const std::size_t half = size / 2;
    at += at[half] <= limit ? half : 0;
    size -= half;
  }
  return static_cast<std::size_t>(at - heads.data());
}

}  // namespace

std::size_t PackedBag::size() const noexcept {
  std::size_t sum = 0;
  for (const Chunk* chunk : chunks()) sum += chunk->count;
  return sum;
}

// The chunk that the row is in or belongs into: the last one whose first row is not behind it. A
// head is that of the first row when the chunk was split off. Rows with a smaller head stay before
// the chunk, rows with a larger one behind that row; among chunks whose heads are that of the row,
// the first rows themselves decide.
std::size_t PackedBag::chunk_for(RowStore& store) const {
  const Chunks& all = list();
  const std::uint64_t head = order_head(store.row());
  std::size_t low = head == 0 ? 0 : last_up_to(all.heads, head - 1);
  std::size_t high = low + 1;
  if (high < all.heads.size() && all.heads[high] == head) high = last_up_to(all.heads, head) + 1;
  while (high - low > 1) {
    const std::size_t middle = (low + high) / 2;
    (store.order_to_first(*all.chunks[middle]) >= 0 ? low : high) = middle;
  }
  return low;
}

void PackedBag::prefetch(ValueRef row) const noexcept {
  if (!many()) return;
  const std::size_t index = last_up_to(list().heads, order_head(row));
  const auto* lines = reinterpret_cast<const std::byte*>(list().chunks[index]);
  for (int line = 0; line < 8; ++line) __builtin_prefetch(lines + 64 * line);
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
  } else if (index + 1 < chunks().size() && chunk->count < kRowsMax / 4 &&
             chunk->count + chunks()[index + 1]->count <= kRowsMax / 2) {
    store.merge(chunk, slot(index + 1));
    drop(index + 1);
  }
  return true;
}

void PackedBag::split(RowStore& store, std::size_t index) {
  if (!many()) {
    auto made = std::make_unique<Chunks>(Chunks{{chunk_}, {0}});
    chunk_ = reinterpret_cast<Chunk*>(reinterpret_cast<std::uintptr_t>(made.release()) + 1);
  }
  Chunks& all = list();
  all.chunks.reserve(all.chunks.size() + 1);
  all.heads.reserve(all.heads.size() + 1);
  // Rows that come in order fill the chunks: only the last one is then left half empty.
  Chunk*& full = all.chunks[index];
  const bool at_end = index + 1 == all.chunks.size();
  const std::uint32_t at = at_end ? kRowsMax * 3 / 4 : kRowsMax / 2;
  const std::uint64_t head = order_head(store.at(*full, at).value());
  Chunk* upper = store.split(full, at);
  const auto behind = static_cast<std::ptrdiff_t>(index) + 1;
  all.chunks.insert(all.chunks.begin() + behind, upper);
  all.heads.insert(all.heads.begin() + behind, head);
}

void PackedBag::drop(std::size_t index) {
  Chunks& all = list();
  all.chunks.erase(all.chunks.begin() + static_cast<std::ptrdiff_t>(index));
  all.heads.erase(all.heads.begin() + static_cast<std::ptrdiff_t>(index));
  all.heads.front() = 0;
  if (all.chunks.size() > 1) return;
  Chunk* only = all.chunks.front();
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
  for (std::size_t i = 0; many() && i < chunks().size(); ++i) store.clear(slot(i));
  if (many())
    delete &list();
  else
    store.clear(chunk_);
  chunk_ = nullptr;
}

}  // namespace dmm::engine::internal
