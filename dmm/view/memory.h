#pragma once

#include <cstddef>
#include <string>

#include "dmm/limits.h"

namespace dmm::view {

/// What a text needs beside its own object.
inline std::size_t text_memory(const std::string& text) noexcept {
  constexpr std::size_t kInside = 15;  // that are kept in the object
  return text.capacity() > kInside ? text.capacity() + 1 : 0;
}

/// Bytes that a hash map needs, estimated from limits::memory_sample of its items: a map of a
/// million is not gone through for a metric.
/// more   called as more(key, value): what an item needs beside its own object.
template <class Map, class More>
std::size_t memory_of_map(const Map& map, const More& more) {
  // A node knows the next one and the hash of its key.
  constexpr std::size_t kNode = sizeof(typename Map::value_type) + 2 * sizeof(void*);
  std::size_t looked_at = 0;
  std::size_t beside = 0;
  for (const auto& [key, value] : map) {
    if (looked_at == limits::memory_sample) break;
    ++looked_at;
    beside += more(key, value);
  }
  if (looked_at == 0) return map.bucket_count() * sizeof(void*);
  return map.bucket_count() * sizeof(void*) + map.size() * kNode +
         static_cast<std::size_t>(static_cast<double>(beside) / static_cast<double>(looked_at) *
                                  static_cast<double>(map.size()));
}

}  // namespace dmm::view
