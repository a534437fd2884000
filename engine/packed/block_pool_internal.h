/// BlockPool: memory for many small blocks that grow and shrink.
///
/// Blocks come in classes of 16, 24, 32, 48, 64, 96 … bytes. Small ones are cut from slabs and kept
/// in a free list when they are given back; the slabs go when no block is left. Large ones come
/// from malloc. Behind every block a few bytes may be read (kRecordSlack). Threads: one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dmm::engine::internal {

class BlockPool {
 public:
  BlockPool() = default;
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  ~BlockPool();

  static constexpr std::size_t bytes_of(unsigned block_class) noexcept {
    return (block_class % 2 == 0 ? std::size_t{16} : std::size_t{24}) << (block_class / 2);
  }
  /// The smallest class with at least `bytes`.
  static unsigned class_of(std::size_t bytes) noexcept {
    unsigned result = 0;
    while (bytes_of(result) < bytes) ++result;
    return result;
  }
  /// throws std::bad_alloc.
  void* take(unsigned block_class);
  void give(void* block, unsigned block_class) noexcept;
  /// Bytes held from the system.
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr unsigned kPooled = 13;  // classes up to 1 KiB
  struct Free {
    Free* next;
  };
  void release_slabs() noexcept;

  std::array<Free*, kPooled> free_{};
  std::vector<void*> slabs_;
  std::byte* next_ = nullptr;  // the part of the last slab that is not cut yet
  std::byte* end_ = nullptr;
  std::size_t slab_bytes_ = 1024;
  std::size_t live_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace dmm::engine::internal
