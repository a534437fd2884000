#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace dmm::engine {

/// Mixes two words: the 128-bit product, folded. Deterministic across runs and machines of one
/// byte order; not meant to resist an adversary who chooses the keys.
inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9E3779B97F4A7C15ULL) * (b ^ 0xD6E8FEB86659FD93ULL);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// Hash of bytes, eight at a time.
inline std::uint64_t hash_bytes(std::string_view bytes) noexcept {
  std::uint64_t state = mix(0x2D358DCCAA6C78A5ULL, bytes.size());
  while (bytes.size() >= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    state = mix(state, word);
    bytes.remove_prefix(8);
  }
  std::uint64_t tail = 0;
  if (!bytes.empty()) std::memcpy(&tail, bytes.data(), bytes.size());
  return mix(state, tail);
}

}  // namespace dmm::engine
