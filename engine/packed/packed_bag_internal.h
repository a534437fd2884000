/// PackedBag: rows with weights, packed and in canonical order; the collection of one key.
///
/// A bag is eight bytes: nothing, one chunk, or a list of chunks. It is a handle that is copied as
/// it is; whoever owns it gives it back by clear(). All calls take the store that its rows lie in,
/// and work with the row that the store looks for.
#pragma once

#include <span>
#include <vector>

#include "engine/packed/row_store_internal.h"

namespace dmm::engine::internal {

class PackedBag {
 public:
  bool empty() const noexcept { return chunk_ == nullptr; }
  /// The number of different rows. O(chunks).
  std::size_t size() const noexcept;

  /// Adds `weight` to the weight of the row; `before` receives the old one.
  /// returns false on overflow, and changes nothing then. O(log n + chunk).
  [[nodiscard]] bool add(RowStore& store, Weight weight, Weight& before);
  Weight weight(RowStore& store) const;
  void clear(RowStore& store) noexcept;

  PackedRow first(const RowStore& store) const noexcept { return store.at(*chunks().front(), 0); }
  PackedRow last(const RowStore& store) const noexcept {
    const Chunk& chunk = *chunks().back();
    return store.at(chunk, chunk.count - 1);
  }
  /// Calls visit(row) in canonical order until it returns false. The bag must not change meanwhile.
  template <class Visit>
  void ascend(const RowStore& store, const Visit& visit) const {
    for (const Chunk* chunk : chunks())
      for (std::uint32_t i = 0; i < chunk->count; ++i)
        if (!visit(store.at(*chunk, i))) return;
  }
  template <class Visit>
  void descend(const RowStore& store, const Visit& visit) const {
    const auto all = chunks();
    for (auto chunk = all.rbegin(); chunk != all.rend(); ++chunk)
      for (std::uint32_t i = (*chunk)->count; i-- > 0;)
        if (!visit(store.at(**chunk, i))) return;
  }
  /// Brings the memory near that add() will read for a row of a large bag.
  void prefetch(ValueRef row) const noexcept;

 private:
  /// The chunks of a large bag, and for each a number that is not behind its rows (see chunk_for):
  /// a row is looked for among these, which lie together, and not in the memory of every chunk.
  struct Chunks {
    std::vector<Chunk*> chunks;
    std::vector<std::uint64_t> heads;  // that of the first chunk is 0
  };
  static constexpr std::uint32_t kRowsMax = 128;  // of a chunk

  // The lowest bit tells a list from a chunk.
  bool many() const noexcept { return (reinterpret_cast<std::uintptr_t>(chunk_) & 1) != 0; }
  Chunks& list() const noexcept {
    return *reinterpret_cast<Chunks*>(reinterpret_cast<std::uintptr_t>(chunk_) - 1);
  }
  std::span<Chunk* const> chunks() const noexcept {
    if (many()) return list().chunks;
    return {&chunk_, chunk_ == nullptr ? std::size_t{0} : std::size_t{1}};
  }
  std::size_t chunk_for(RowStore& store) const;
  Chunk*& slot(std::size_t index) noexcept { return many() ? list().chunks[index] : chunk_; }
  void split(RowStore& store, std::size_t index);
  void drop(std::size_t index);

  Chunk* chunk_ = nullptr;
};

}  // namespace dmm::engine::internal
