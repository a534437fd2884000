/// DenseMap: the hash map of Z-sets in hand. What operators keep for long lies packed (packed/).
///
/// Entries lie densely in memory that never moves (chunks of doubling size), a table of positions
/// finds them. Growing and shrinking move a few slots with each change, so that no single step pays
/// for a whole rehash. Not iterable while it changes; order of entries is that of insertion, but
/// for erasures, which put the last entry into the gap.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace dmm::engine {

namespace internal {

/// Positions by hash. Open addressing, linear probing; while it grows, two tables are in use.
class HashIndex {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFFU;

  HashIndex() = default;
  HashIndex(const HashIndex&) = delete;
  HashIndex& operator=(const HashIndex&) = delete;
  ~HashIndex() {
    std::free(table_);
    std::free(old_);
  }

  template <class Matches>
  std::uint32_t find(std::uint32_t hash, const Matches& matches) const {
    if (table_ != nullptr) {
      const std::uint32_t at = find_in(table_, mask_, hash, matches);
      if (at != kNone || old_ == nullptr) return at;
      return find_in(old_, old_mask_, hash, matches);
    }
    return kNone;
  }

  void insert(std::uint32_t hash, std::uint32_t position) {
    if (table_ == nullptr)
      resize(kSlotsMin);
    else if ((used_ + 1) * 8 > slots() * 7)
      resize(slots() * 2);
    put(hash, position);
    ++used_;
    migrate(16);
  }

  void erase(std::uint32_t hash, std::uint32_t position) {
    if (!erase_new(hash, position)) {
      if (std::uint64_t* slot = locate(old_, old_mask_, hash, position)) *slot = kTomb;
    }
    --used_;
    migrate(16);
    if (old_ == nullptr && slots() > kSlotsMin && used_ * 8 < slots()) shrink();
  }

  void move(std::uint32_t hash, std::uint32_t from, std::uint32_t to) {
    std::uint64_t* slot = locate(table_, mask_, hash, from);
    if (slot == nullptr) slot = locate(old_, old_mask_, hash, from);
    if (slot != nullptr) *slot = pack(hash, to);
  }

  void clear() {
    std::free(table_);
    std::free(old_);
    table_ = old_ = nullptr;
    used_ = 0;
    mask_ = old_mask_ = cursor_ = 0;
  }

  std::size_t bytes() const noexcept {
    return (table_ ? (std::size_t{mask_} + 1) * 8 : 0) +
           (old_ ? (std::size_t{old_mask_} + 1) * 8 : 0);
  }

 private:
  static constexpr std::size_t kSlotsMin = 32;
  static constexpr std::uint64_t kTomb = ~std::uint64_t{0};
  static std::uint64_t pack(std::uint32_t hash, std::uint32_t position) noexcept {
    return (std::uint64_t{hash} << 32) | (position + 1);
  }
  static std::uint32_t position_of(std::uint64_t slot) noexcept {
    return static_cast<std::uint32_t>(slot) - 1;
  }
  static std::uint32_t hash_of(std::uint64_t slot) noexcept {
    return static_cast<std::uint32_t>(slot >> 32);
  }

  template <class Matches>
  static std::uint32_t find_in(const std::uint64_t* table, std::uint32_t mask, std::uint32_t hash,
                               const Matches& matches) {
    for (std::uint32_t i = hash & mask;; i = (i + 1) & mask) {
      const std::uint64_t slot = table[i];
      if (slot == 0) return kNone;
      if (slot != kTomb && hash_of(slot) == hash && matches(position_of(slot)))
        return position_of(slot);
    }
  }

  static std::uint64_t* locate(std::uint64_t* table, std::uint32_t mask, std::uint32_t hash,
                               std::uint32_t position) noexcept {
    if (table == nullptr) return nullptr;
    const std::uint64_t wanted = pack(hash, position);
    for (std::uint32_t i = hash & mask; table[i] != 0; i = (i + 1) & mask)
      if (table[i] == wanted) return &table[i];
    return nullptr;
  }

  void put(std::uint32_t hash, std::uint32_t position) noexcept {
    std::uint32_t i = hash & mask_;
    while (table_[i] != 0) i = (i + 1) & mask_;
    table_[i] = pack(hash, position);
  }

  // Closes the gap by moving later slots of the run back, so that the table has no tombstones.
  bool erase_new(std::uint32_t hash, std::uint32_t position) noexcept {
    std::uint64_t* found = locate(table_, mask_, hash, position);
    if (found == nullptr) return false;
    auto hole = static_cast<std::uint32_t>(found - table_);
    for (std::uint32_t i = (hole + 1) & mask_; table_[i] != 0; i = (i + 1) & mask_) {
      const std::uint32_t home = hash_of(table_[i]) & mask_;
      if (((i - home) & mask_) >= ((i - hole) & mask_)) {
        table_[hole] = table_[i];
        hole = i;
      }
    }
    table_[hole] = 0;
    return true;
  }

  std::size_t slots() const noexcept { return std::size_t{mask_} + 1; }

  void resize(std::size_t slots) {
    auto* other = static_cast<std::uint64_t*>(std::calloc(slots, sizeof(std::uint64_t)));
    if (other == nullptr) throw std::bad_alloc();
    migrate(kNone);
    old_ = table_;
    old_mask_ = mask_;
    cursor_ = 0;
    table_ = other;
    mask_ = static_cast<std::uint32_t>(slots - 1);
  }

  void shrink() noexcept {
    try {
      resize(slots() / 2);
    } catch (const std::bad_alloc&) {
      // The larger table goes on.
    }
  }

  void migrate(std::uint32_t count) noexcept {
    if (old_ == nullptr) return;
    while (count-- != 0) {
      std::uint64_t& slot = old_[cursor_];
      if (slot != 0 && slot != kTomb) {
        put(hash_of(slot), position_of(slot));
        slot = kTomb;
      }
      if (cursor_++ == old_mask_) {
        std::free(old_);
        old_ = nullptr;
        return;
      }
    }
  }

  std::uint64_t* table_ = nullptr;
  std::uint64_t* old_ = nullptr;
  std::uint32_t mask_ = 0;
  std::uint32_t old_mask_ = 0;
  std::uint32_t cursor_ = 0;
  std::size_t used_ = 0;
};

}  // namespace internal

/// A hash map whose entries know their own hash (`std::uint32_t Entry::hash() const`).
template <class Entry>
class DenseMap {
 public:
  static constexpr std::uint32_t kNone = internal::HashIndex::kNone;

  DenseMap() = default;
  DenseMap(const DenseMap&) = delete;
  DenseMap& operator=(const DenseMap&) = delete;
  ~DenseMap() { clear(); }

  std::uint32_t size() const noexcept { return size_; }
  Entry& operator[](std::uint32_t position) noexcept { return *address(position); }
  const Entry& operator[](std::uint32_t position) const noexcept { return *address(position); }

  /// Position of the entry with this hash for which `matches(entry)`; kNone when there is none.
  template <class Matches>
  std::uint32_t find(std::uint32_t hash, const Matches& matches) const {
    return index_.find(hash, [&](std::uint32_t at) { return matches(*address(at)); });
  }

  /// Adds an entry that is not in yet. O(1); references to other entries stay valid.
  std::uint32_t insert(Entry entry) {
    const std::uint32_t at = size_;
    const std::size_t chunk = chunk_of(at);
    if (chunks_[chunk] == nullptr) {
      chunks_[chunk] = static_cast<Entry*>(std::malloc(sizeof(Entry) * chunk_size(chunk)));
      if (chunks_[chunk] == nullptr) throw std::bad_alloc();
    }
    const std::uint32_t hash = entry.hash();
    index_.insert(hash, at);
    new (address(at)) Entry(std::move(entry));
    ++size_;
    return at;
  }

  /// Removes an entry; the last one takes its position.
  void erase(std::uint32_t at) {
    Entry& gone = *address(at);
    index_.erase(gone.hash(), at);
    const std::uint32_t last = size_ - 1;
    if (at != last) {
      Entry& moved = *address(last);
      index_.move(moved.hash(), last, at);
      gone = std::move(moved);
    }
    address(last)->~Entry();
    --size_;
    // The chunk above the one that is now the last one stays for rows that come and go.
    const std::size_t spare = chunk_of(size_) + 1;
    if (spare + 1 < chunks_.size() && chunks_[spare + 1] != nullptr) {
      std::free(chunks_[spare + 1]);
      chunks_[spare + 1] = nullptr;
    }
  }

  void clear() noexcept {
    for (std::uint32_t i = 0; i < size_; ++i) address(i)->~Entry();
    for (Entry*& chunk : chunks_) {
      std::free(chunk);
      chunk = nullptr;
    }
    index_.clear();
    size_ = 0;
  }

 private:
  static constexpr std::uint32_t kFirst = 16;
  static std::size_t chunk_of(std::uint32_t at) noexcept {
    return static_cast<std::size_t>(std::bit_width(at / kFirst));
  }
  static std::size_t chunk_size(std::size_t chunk) noexcept {
    return chunk == 0 ? kFirst : std::size_t{kFirst} << (chunk - 1);
  }
  Entry* address(std::uint32_t at) const noexcept {
    const std::size_t chunk = chunk_of(at);
    return chunks_[chunk] + (chunk == 0 ? at : at - chunk_size(chunk));
  }

  std::array<Entry*, 30> chunks_{};
  internal::HashIndex index_;
  std::uint32_t size_ = 0;
};

}  // namespace dmm::engine
