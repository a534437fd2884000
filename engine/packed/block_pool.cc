#include "engine/packed/block_pool_internal.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "engine/packed/row_layout_internal.h"

namespace dmm::engine::internal {
namespace {

constexpr std::size_t kSlabBytesMax = std::size_t{64} << 10;

void* allocate(std::size_t bytes) {
  void* memory = std::malloc(bytes + kRecordSlack);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

BlockPool::~BlockPool() {
  release_slabs();
}

void BlockPool::release_slabs() noexcept {
  for (void* slab : slabs_) std::free(slab);
  slabs_.clear();
  free_.fill(nullptr);
  next_ = end_ = nullptr;
  slab_bytes_ = 1024;
  bytes_ = 0;
}

void* BlockPool::take(unsigned block_class) {
  const std::size_t size = bytes_of(block_class);
  if (block_class >= kPooled) return allocate(size);
  ++live_;
  if (Free* block = free_[block_class]) {
    free_[block_class] = block->next;
    return block;
  }
  if (static_cast<std::size_t>(end_ - next_) < size) {
    // What is left of the old slab is cut into free blocks.
    for (unsigned rest = kPooled; rest-- > 0;)
      while (static_cast<std::size_t>(end_ - next_) >= bytes_of(rest)) {
        free_[rest] = new (next_) Free{free_[rest]};
        next_ += bytes_of(rest);
      }
    slab_bytes_ = std::min(slab_bytes_ * 2, kSlabBytesMax);
    slabs_.reserve(slabs_.size() + 1);
    next_ = static_cast<std::byte*>(allocate(slab_bytes_));
    slabs_.push_back(next_);
    end_ = next_ + slab_bytes_;
    bytes_ += slab_bytes_;
  }
  void* block = next_;
  next_ += size;
  return block;
}

void BlockPool::give(void* block, unsigned block_class) noexcept {
  if (block_class >= kPooled) return std::free(block);
  free_[block_class] = new (block) Free{free_[block_class]};
  if (--live_ == 0) release_slabs();
}

}  // namespace dmm::engine::internal
