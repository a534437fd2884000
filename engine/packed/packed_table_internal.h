/// PackedTable: rows found by hash, packed, each with a weight or with a payload.
///
/// The rows of one make lie in buckets, each a chunk. Buckets are split one at a time as rows come
/// and put together one at a time as they go (linear hashing), so no step ever pays for a rehash,
/// and the hash of a row is stored nowhere. Identity is that of the whole row, never of its hash.
#pragma once

#include <array>
#include <memory>

#include "engine/packed/row_store_internal.h"

namespace dmm::engine::internal {

/// The buckets of one make.
class BucketList {
 public:
  BucketList() = default;
  BucketList(const BucketList&) = delete;
  BucketList& operator=(const BucketList&) = delete;
  ~BucketList();

  std::uint32_t size() const noexcept { return size_; }
  Chunk*& operator[](std::uint32_t bucket) const noexcept {
    const auto segment = static_cast<std::size_t>(std::bit_width(bucket / kFirst));
    return segments_[segment][segment == 0 ? bucket : bucket - (kFirst << (segment - 1))];
  }
  Chunk*& of(std::uint32_t hash) const noexcept {
    const std::uint32_t low = hash & mask_;
    return (*this)[low < size_ ? low : low & (mask_ >> 1)];
  }
  /// The bucket that the last one was split from.
  std::uint32_t origin_of_last() const noexcept { return (size_ - 1) & (mask_for(size_) >> 1); }
  /// Adds an empty bucket at the end. throws std::bad_alloc.
  void push();
  void pop() noexcept;

 private:
  static constexpr std::uint32_t kFirst = 16;
  static std::uint32_t mask_for(std::uint32_t size) noexcept {
    return size <= 1 ? 0 : (std::uint32_t{1} << std::bit_width(size - 1)) - 1;
  }
  std::array<Chunk**, 29> segments_{};
  std::uint32_t size_ = 0;
  std::uint32_t mask_ = 0;
};

class PackedTable {
 public:
  explicit PackedTable(std::size_t payload_bytes = 0) : store_(payload_bytes) {}
  PackedTable(const PackedTable&) = delete;
  PackedTable& operator=(const PackedTable&) = delete;
  ~PackedTable() { clear(); }

  /// Where a row is; valid until the table changes.
  struct Place {
    Chunk** bucket = nullptr;
    std::uint32_t at = 0;
    explicit operator bool() const noexcept { return bucket != nullptr; }
  };
  std::size_t size() const noexcept { return size_; }
  /// Bytes held for the rows.
  std::size_t bytes() const noexcept { return store_.bytes(); }
  Place find(ValueRef row) { return find(row, hash(row)); }
  Place find(ValueRef row, std::uint32_t hash);
  /// Adds the row that find() was just asked for and did not find, with a payload of zeros. O(1):
  /// at most one bucket is split.
  Place insert(std::uint32_t hash, Weight weight = 1);
  void erase(const Place& place) noexcept;
  std::uint8_t* payload(const Place& place) const noexcept {
    return store_.payload(**place.bucket, place.at);
  }

  /// Adds `weight` to the weight of a row; `before` receives the old one. Rows of weight 0 go.
  /// returns false on overflow, and changes nothing then.
  [[nodiscard]] bool add(ValueRef row, Weight weight, Weight& before);

  /// For a loop of find() over items 0 … count-1: brings the memory near that the next ones will
  /// read. hash_at(item) gives the hash of an item.
  template <class HashAt>
  void prefetch_ahead(std::size_t item, std::size_t count, const HashAt& hash_at) const {
    constexpr std::size_t kDistance = 6;
    if (item + 2 * kDistance < count) prefetch_bucket(hash_at(item + 2 * kDistance));
    if (item + kDistance < count) prefetch_rows(hash_at(item + kDistance));
  }
  /// Calls visit(row, payload) for each row, in no defined but a deterministic order.
  template <class Visit>
  void each(const Visit& visit) const {
    for (const auto& made : makes_)
      for (std::uint32_t bucket = 0; made && bucket < made->buckets.size(); ++bucket)
        if (Chunk* chunk = made->buckets[bucket])
          for (std::uint32_t i = 0; i < chunk->count; ++i)
            visit(store_.at(*chunk, i), store_.payload(*chunk, i));
  }
  void clear() noexcept;

 private:
  struct Make {
    BucketList buckets;
    std::size_t rows = 0;
    std::size_t row_bytes = 0;  // of the last row put in
  };
  // Buckets of about four cache lines: the rows that they hold on average.
  static std::size_t rows_per_bucket(std::size_t row_bytes) noexcept {
    return std::clamp<std::size_t>(256 / std::max<std::size_t>(row_bytes, 1), 4, 24);
  }
  void prefetch_bucket(std::uint32_t hash) const noexcept;
  void prefetch_rows(std::uint32_t hash) const noexcept;
  void grow(Make& make);
  void shrink(Make& make) noexcept;

  mutable RowStore store_;
  std::vector<std::unique_ptr<Make>> makes_;  // by number of the tree
  std::size_t size_ = 0;
  std::uint16_t last_make_ = 0;
};

}  // namespace dmm::engine::internal
