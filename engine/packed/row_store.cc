#include "engine/packed/row_store_internal.h"

#include <bit>
#include <new>

namespace dmm::engine::internal {
namespace {

constexpr std::size_t kHeader = sizeof(Chunk);

// The first bytes of a record as a number: compares as they do.
std::uint64_t head(const std::uint8_t* record, std::size_t bytes) noexcept {
  std::uint64_t word;
  std::memcpy(&word, record, sizeof word);
  if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
  return bytes >= 8 ? word : (bytes == 0 ? 0 : word >> (64 - 8 * bytes));
}

template <class Less>
std::uint32_t lower_bound(const std::uint8_t* records, std::uint32_t count, std::size_t stride,
                          const Less& less) {
  std::uint32_t low = 0;
  for (std::uint32_t size = count; size > 0;) {
    const std::uint32_t half = size / 2;
    if (less(records + (low + half) * stride)) {
      low += half + 1;
      size -= half + 1;
    } else {
      size = half;
    }
  }
  return low;
}

}  // namespace

void RowStore::look(ValueRef row) {
  row_ = row;
  tree_ = layouts_.tree_of(row, leaves_.data(), leaf_count_);
  for (std::size_t i = 0; i < leaf_count_; ++i) classes_[i] = Column::class_of(leaves_[i]);
  encoded_for_ = nullptr;
}

bool RowStore::fits_whole(const RowLayout& layout) const noexcept {
  const ColumnClasses whole = Column::class_of(row_);
  return layout.fits({&whole, 1});
}

const std::uint8_t* RowStore::encoded(const RowLayout& layout) {
  if (encoded_for_ == &layout) return bytes_.data();
  if (bytes_.size() < layout.row_bytes() + kRecordSlack)
    bytes_.resize(layout.row_bytes() + kRecordSlack);
  if (layout.tree_number() == tree_)
    layout.encode({leaves_.data(), leaf_count_}, bytes_.data());
  else
    layout.encode({&row_, 1}, bytes_.data());
  encoded_for_ = &layout;
  return bytes_.data();
}

RowStore::Place RowStore::find(const Chunk& chunk) {
  const RowLayout& layout = layouts_.layout(chunk.layout);
  if (!fits(layout)) return {0, false, false};
  const std::uint8_t* wanted = encoded(layout);
  const std::size_t stride = layout.stride();
  const std::size_t bytes = layout.row_bytes();
  if (!layout.flat()) {
    std::uint32_t low = 0;
    for (std::uint32_t high = chunk.count; low < high;) {
      const std::uint32_t middle = (low + high) / 2;
      const int order = layout.compare(chunk.records() + middle * stride, wanted);
      if (order == 0) return {middle, true, true};
      (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
    }
    return {low, false, true};
  }
  std::uint32_t at;
  if (const std::uint64_t first = head(wanted, bytes); bytes <= 8) {
    at = lower_bound(chunk.records(), chunk.count, stride,
                     [&](const std::uint8_t* record) { return head(record, bytes) < first; });
  } else {
    at = lower_bound(chunk.records(), chunk.count, stride, [&](const std::uint8_t* record) {
      const std::uint64_t other = head(record, 8);
      return other != first ? other < first : std::memcmp(record + 8, wanted + 8, bytes - 8) < 0;
    });
  }
  return {at, at < chunk.count && layout.compare(chunk.records() + at * stride, wanted) == 0, true};
}

int RowStore::order_to_first(const Chunk& chunk) {
  const RowLayout& layout = layouts_.layout(chunk.layout);
  if (fits(layout)) return layout.compare(encoded(layout), chunk.records());
  if (layout.tree_number() != tree_) return compare(row_, layout.value(chunk.records()));
  for (std::size_t i = 0; i < leaf_count_; ++i)
    if (const int order = compare(leaves_[i], layout.leaf(chunk.records(), i)); order != 0)
      return order;
  return 0;
}

Chunk* RowStore::new_chunk(const RowLayout& layout, std::size_t rows) {
  const unsigned block_class = BlockPool::class_of(kHeader + rows * layout.stride());
  return new (blocks_.take(block_class))
      Chunk{0, layout.id(), static_cast<std::uint16_t>(block_class)};
}

void RowStore::free_block(Chunk*& chunk) noexcept {
  blocks_.give(chunk, chunk->block_class);
  chunk = nullptr;
}

Chunk* RowStore::make(Weight weight) {
  Chunk* chunk = new_chunk(layouts_.narrowest(tree_, classes(), RowLayout::bytes_of(weight)), 1);
  insert(chunk, {0, false, true}, weight);
  return chunk;
}

void RowStore::resize(Chunk*& chunk, unsigned block_class) {
  const RowLayout& layout = layouts_.layout(chunk->layout);
  Chunk* fresh = new (blocks_.take(block_class))
      Chunk{chunk->count, chunk->layout, static_cast<std::uint16_t>(block_class)};
  std::memcpy(fresh->records(), chunk->records(), chunk->count * layout.stride());
  free_block(chunk);
  chunk = fresh;
}

// Memory is given back when two thirds of it are empty, so that a row that comes and goes does not
// move the others each time.
void RowStore::fit(Chunk*& chunk) noexcept {
  const std::size_t needed = kHeader + chunk->count * layouts_.layout(chunk->layout).stride();
  if (chunk->block_class >= 3 && needed <= BlockPool::bytes_of(chunk->block_class - 3U)) try {
      resize(chunk, std::max(BlockPool::class_of(needed), chunk->block_class - 2U));
    } catch (const std::bad_alloc&) {
      // The chunk stays in the block that it has.
    }
}

// Packs all rows anew; those of another make become values on their own.
void RowStore::repack(Chunk*& chunk, const RowLayout& to) {
  struct Guard {
    RowStore& store;
    Chunk* chunk;
    ~Guard() {
      if (chunk != nullptr) store.clear(chunk);
    }
  };
  const RowLayout& from = layouts_.layout(chunk->layout);
  Guard guard{*this, new_chunk(to, chunk->count + std::size_t{1})};
  std::vector<ValueRef> leaves(to.columns().size());
  scratch_.resize(to.row_bytes() + kRecordSlack);
  for (std::uint32_t i = 0; i < chunk->count; ++i) {
    const std::uint8_t* record = chunk->records() + i * from.stride();
    std::uint8_t* fresh = guard.chunk->records() + i * to.stride();
    Value whole;
    if (from.tree_number() == to.tree_number()) {
      for (std::size_t leaf = 0; leaf < leaves.size(); ++leaf)
        leaves[leaf] = from.leaf(record, leaf);
    } else {
      whole = from.value(record);
      leaves[0] = whole;
    }
    to.encode(leaves, scratch_.data());
    std::memcpy(fresh, scratch_.data(), to.row_bytes());
    to.retain(fresh);
    to.set_weight(fresh, from.weight(record));
    std::memcpy(to.payload(fresh), record + from.row_bytes() + from.weight_bytes(), payload_bytes_);
    ++guard.chunk->count;
    ++rows_;
  }
  std::swap(guard.chunk, chunk);
}

// Makes the chunk one that has a place for the row. returns true when its layout became another.
bool RowStore::make_room(Chunk*& chunk, Weight weight) {
  const RowLayout& layout = layouts_.layout(chunk->layout);
  const std::uint8_t weight_bytes = RowLayout::bytes_of(weight);
  const RowLayout* wider = nullptr;
  if (!fits(layout)) {
    static constexpr ColumnClasses kAnything = Column::kOther;
    wider = layout.tree_number() == tree_
                ? &layouts_.widened(layout, classes(), weight_bytes)
                : &layouts_.narrowest(LayoutSet::kWhole, {&kAnything, 1},
                                      std::max(weight_bytes, layout.weight_bytes()));
  } else if (weight_bytes > layout.weight_bytes()) {
    wider = &layouts_.widened(layout, {}, weight_bytes);
  }
  if (wider != nullptr) {
    repack(chunk, *wider);
    return true;
  }
  const std::size_t needed = kHeader + (chunk->count + std::size_t{1}) * layout.stride();
  if (needed <= BlockPool::bytes_of(chunk->block_class)) return false;
  const bool small = BlockPool::bytes_of(chunk->block_class) < 64;
  resize(chunk, std::max(chunk->block_class + (small ? 2U : 1U), BlockPool::class_of(needed)));
  return false;
}

std::uint32_t RowStore::insert(Chunk*& chunk, Place place, Weight weight) {
  const std::uint32_t at = make_room(chunk, weight) || !place.known ? find(*chunk).at : place.at;
  const RowLayout& layout = layouts_.layout(chunk->layout);
  const std::size_t stride = layout.stride();
  std::uint8_t* record = chunk->records() + at * stride;
  std::memmove(record + stride, record, (chunk->count - at) * stride);
  std::memcpy(record, encoded(layout), layout.row_bytes());
  layout.retain(record);
  layout.set_weight(record, weight);
  if (payload_bytes_ != 0) std::memset(layout.payload(record), 0, payload_bytes_);
  ++chunk->count;
  ++rows_;
  return at;
}

void RowStore::erase(Chunk*& chunk, std::uint32_t at) noexcept {
  const RowLayout& layout = layouts_.layout(chunk->layout);
  const std::size_t stride = layout.stride();
  std::uint8_t* record = chunk->records() + at * stride;
  layout.release(record);
  --rows_;
  if (--chunk->count == 0) return free_block(chunk);
  std::memmove(record, record + stride, (chunk->count - at) * stride);
  fit(chunk);
}

void RowStore::set_weight(Chunk*& chunk, std::uint32_t at, Weight weight) {
  const std::uint8_t bytes = RowLayout::bytes_of(weight);
  const RowLayout& layout = layouts_.layout(chunk->layout);
  if (bytes > layout.weight_bytes()) repack(chunk, layouts_.widened(layout, {}, bytes));
  const RowLayout& now = layouts_.layout(chunk->layout);
  now.set_weight(chunk->records() + at * now.stride(), weight);
}

Chunk* RowStore::split(Chunk*& chunk, std::uint32_t at) {
  const RowLayout& layout = layouts_.layout(chunk->layout);
  Chunk* upper = new_chunk(layout, chunk->count - at);
  upper->count = chunk->count - at;
  std::memcpy(upper->records(), chunk->records() + at * layout.stride(),
              upper->count * layout.stride());
  chunk->count = at;
  fit(chunk);
  return upper;
}

void RowStore::merge(Chunk*& into, Chunk*& from) {
  const RowLayout* layout = &layouts_.layout(into->layout);
  if (into->layout != from->layout) {
    const RowLayout& other = layouts_.layout(from->layout);
    std::vector<ColumnClasses> classes;
    for (const Column& column : other.columns()) classes.push_back(column.accepts);
    layout = &layouts_.widened(*layout, classes, other.weight_bytes());
    if (into->layout != layout->id()) repack(into, *layout);
    if (from->layout != layout->id()) repack(from, *layout);
  }
  const std::size_t stride = layout->stride();
  Chunk* both = new_chunk(*layout, std::size_t{into->count} + from->count);
  std::uint32_t i = 0;
  std::uint32_t j = 0;
  while (i < into->count || j < from->count) {
    const std::uint8_t* a = into->records() + i * stride;
    const std::uint8_t* b = from->records() + j * stride;
    const bool first = j == from->count || (i < into->count && layout->compare(a, b) < 0);
    std::memcpy(both->records() + (both->count++) * stride, first ? a : b, stride);
    ++(first ? i : j);
  }
  free_block(from);
  free_block(into);
  into = both;
}

void RowStore::clear(Chunk*& chunk) noexcept {
  if (chunk == nullptr) return;
  rows_ -= chunk->count;
  const RowLayout& layout = layouts_.layout(chunk->layout);
  if (!layout.flat())
    for (std::uint32_t i = 0; i < chunk->count; ++i)
      layout.release(chunk->records() + i * layout.stride());
  free_block(chunk);
}

}  // namespace dmm::engine::internal
