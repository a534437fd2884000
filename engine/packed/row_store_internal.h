/// RowStore: sorted runs of packed rows.
///
/// A chunk is one block of memory with rows of one layout in canonical order, each followed by its
/// weight and, in some stores, a payload of fixed size. Bags and tables (packed_bag, packed_table)
/// consist of chunks; the store holds what their chunks share: layouts, memory, and the row that is
/// looked for.
///
/// A row that does not fit into the layout of its chunk makes the chunk be packed anew, wider. That
/// concerns this chunk only, so no value ever costs more than the size of one chunk.
/// Threads: one at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/packed/block_pool_internal.h"
#include "engine/packed/row_layout_internal.h"

namespace dmm::engine::internal {

struct Chunk {
  std::uint32_t count;
  std::uint16_t layout;
  std::uint16_t block_class;
  std::uint8_t* records() noexcept { return reinterpret_cast<std::uint8_t*>(this + 1); }
  const std::uint8_t* records() const noexcept {
    return reinterpret_cast<const std::uint8_t*>(this + 1);
  }
};

/// A row within a chunk; valid until the chunk changes.
struct PackedRow {
  const RowLayout* layout;
  const std::uint8_t* record;
  Value value() const { return layout->value(record); }
  Weight weight() const noexcept { return layout->weight(record); }
};

class RowStore {
 public:
  explicit RowStore(std::size_t payload_bytes = 0)
      : layouts_(payload_bytes), payload_bytes_(payload_bytes) {}

  /// The row that find, insert and before work with, until the next look().
  void look(ValueRef row);
  ValueRef row() const noexcept { return row_; }
  std::uint16_t tree() const noexcept { return tree_; }

  struct Place {
    std::uint32_t at;  ///< of the row, or where it would stand
    bool found;
    bool known;  ///< false: the row does not fit into the chunk's layout
  };
  /// Where the row is in a chunk. When it does not fit into the chunk's layout it is not in it.
  Place find(const Chunk& chunk);
  /// Canonical order of the row and the first one of a chunk, whatever their makes.
  int order_to_first(const Chunk& chunk);

  /// A chunk of the row alone.
  Chunk* make(Weight weight);
  /// Puts the row into a chunk at the place where find() said that it would stand. The chunk may
  /// move. returns its position. throws std::bad_alloc, and changes nothing then.
  std::uint32_t insert(Chunk*& chunk, Place place, Weight weight);
  /// Removes a row. An empty chunk is given back and becomes null.
  void erase(Chunk*& chunk, std::uint32_t at) noexcept;
  void set_weight(Chunk*& chunk, std::uint32_t at, Weight weight);

  PackedRow at(const Chunk& chunk, std::uint32_t index) const noexcept {
    const RowLayout& layout = layouts_.layout(chunk.layout);
    return {&layout, chunk.records() + index * layout.stride()};
  }
  std::uint8_t* payload(Chunk& chunk, std::uint32_t index) const noexcept {
    const RowLayout& layout = layouts_.layout(chunk.layout);
    return layout.payload(chunk.records() + index * layout.stride());
  }
  /// Splits a chunk by place: rows from `at` on go to the result.
  Chunk* split(Chunk*& chunk, std::uint32_t at);
  /// Splits a chunk in two by a property of its rows: those for which `goes(row)` go to `other`.
  template <class Goes>
  void partition(Chunk*& chunk, Chunk*& other, const Goes& goes);
  /// Puts all rows of `from` into `into`, in order; `from` becomes null.
  void merge(Chunk*& into, Chunk*& from);
  void clear(Chunk*& chunk) noexcept;

  /// Rows in all chunks.
  std::size_t rows() const noexcept { return rows_; }
  std::size_t bytes() const noexcept { return blocks_.bytes(); }

 private:
  Chunk* new_chunk(const RowLayout& layout, std::size_t rows);
  void resize(Chunk*& chunk, unsigned block_class);
  void fit(Chunk*& chunk) noexcept;
  bool make_room(Chunk*& chunk, Weight weight);
  void repack(Chunk*& chunk, const RowLayout& to);
  std::span<const ColumnClasses> classes() const noexcept { return {classes_.data(), leaf_count_}; }
  bool fits(const RowLayout& layout) const noexcept {
    if (layout.tree_number() == tree_) return layout.fits(classes());
    return layout.tree_number() == LayoutSet::kWhole && fits_whole(layout);
  }
  bool fits_whole(const RowLayout& layout) const noexcept;
  const std::uint8_t* encoded(const RowLayout& layout);
  void free_block(Chunk*& chunk) noexcept;

  LayoutSet layouts_;
  BlockPool blocks_;
  std::size_t payload_bytes_;
  std::size_t rows_ = 0;
  ValueRef row_;
  std::uint16_t tree_ = LayoutSet::kWhole;
  std::size_t leaf_count_ = 0;
  std::array<ValueRef, kLeavesMax> leaves_;
  std::array<ColumnClasses, kLeavesMax> classes_;
  std::vector<std::uint8_t> bytes_;    // the row, packed for encoded_for_
  std::vector<std::uint8_t> scratch_;  // of repack
  const RowLayout* encoded_for_ = nullptr;
  std::vector<bool> going_;  // of partition
};

template <class Goes>
void RowStore::partition(Chunk*& chunk, Chunk*& other, const Goes& goes) {
  const RowLayout& layout = layouts_.layout(chunk->layout);
  const std::size_t stride = layout.stride();
  going_.assign(chunk->count, false);
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < chunk->count; ++i)
    if (goes(at(*chunk, i))) {
      going_[i] = true;
      ++count;
    }
  other = nullptr;
  if (count == 0) return;
  if (count == chunk->count) {
    std::swap(chunk, other);
    return;
  }
  Chunk* upper = new_chunk(layout, count);
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < chunk->count; ++i) {
    const std::uint8_t* from = chunk->records() + i * stride;
    std::uint8_t* to = going_[i] ? upper->records() + (upper->count++) * stride
                                 : chunk->records() + (kept++) * stride;
    if (to != from) std::memcpy(to, from, stride);
  }
  chunk->count = kept;
  other = upper;
  fit(chunk);
}

}  // namespace dmm::engine::internal
