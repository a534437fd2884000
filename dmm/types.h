#pragma once

#include <compare>
#include <cstdint>

namespace dmm {

/// The position of a message in a stream, counted by the server from 1. Zero means "none": before
/// the first message of a stream, or "no message yet" where a subject's last one is expected. The
/// revision of a cache entry is the sequence of the message that holds it.
struct Sequence {
  std::uint64_t value = 0;

  friend auto operator<=>(Sequence, Sequence) = default;
  explicit operator bool() const noexcept { return value != 0; }
};

/// The fencing token of a lease: grows by one with each holder, never reused.
struct Epoch {
  std::uint64_t value = 0;

  friend auto operator<=>(Epoch, Epoch) = default;
};

}  // namespace dmm
