#include "engine/node_cache_internal.h"

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

namespace dmm::engine::internal {
namespace {

struct FreeNode {
  FreeNode* next;
};

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint32_t kKeptOfClass = 0;  // the sanitizer is to see each node come and go
#else
// Enough for a step of few rows. Nodes of large steps are left to malloc, which puts neighbours
// together again; kept ones would lie scattered, and each would hold on to its page.
constexpr std::uint32_t kKeptOfClass = 128;
#endif
constexpr std::size_t kUnit = 16;
constexpr std::size_t kClasses = 9;  // up to 128 bytes

// The nodes of one thread. Values that outlive their thread's cache go straight to free().
struct NodeCache {
  FreeNode* free[kClasses] = {};
  std::uint32_t count[kClasses] = {};
  bool closed = false;

  ~NodeCache() {
    closed = true;
    for (FreeNode* node : free)
      while (node != nullptr) std::free(std::exchange(node, node->next));
  }
};
thread_local NodeCache cache;

}  // namespace

void* take_node(std::size_t bytes) {
  const std::size_t units = (bytes + kUnit - 1) / kUnit;
  if (units < kClasses) {
    NodeCache& mine = cache;
    if (FreeNode* node = mine.free[units]; node != nullptr && !mine.closed) {
      mine.free[units] = node->next;
      --mine.count[units];
      return node;
    }
  }
  void* memory = std::malloc(units * kUnit);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void give_node(void* node, std::size_t bytes) noexcept {
  const std::size_t units = (bytes + kUnit - 1) / kUnit;
  NodeCache& mine = cache;
  if (units >= kClasses || mine.closed || mine.count[units] >= kKeptOfClass) return std::free(node);
  mine.free[units] = new (node) FreeNode{mine.free[units]};
  ++mine.count[units];
}

}  // namespace dmm::engine::internal
