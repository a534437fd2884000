#pragma once

// How a snapshot is written as bytes.
//
//     "dmmview\n", version (4 bytes), size of the whole (8 bytes), content, checksum (8 bytes)
//
// Numbers of a fixed width are little-endian. Every flipped byte and every other length is found:
// a step of the checksum is a bijection of its state for each word, and of the word for each state.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/value.h"

namespace dmm::view {

inline constexpr std::uint32_t kSnapshotVersion = 2;

/// Collects the content.
class SnapshotWriter {
 public:
  SnapshotWriter();
  void number(std::uint64_t value);  ///< seven bits a byte
  void fixed(std::uint64_t value);   ///< eight bytes
  void text(std::string_view bytes);
  void time(std::chrono::system_clock::time_point time);
  /// The first object of a make names its keys.
  void value(engine::ValueRef value);
  std::size_t size() const noexcept { return bytes_.size(); }
  /// Adds size and checksum and gives the bytes away.
  std::string finish();

 private:
  std::string bytes_;
  std::unordered_map<const engine::Shape*, std::uint64_t> shapes_;  ///< of values that live on
};

/// Reads what SnapshotWriter wrote. After the first error every read gives nothing and ok() is
/// false. Values belong to one thread.
class SnapshotReader {
 public:
  /// bytes   outlive the reader.
  explicit SnapshotReader(std::string_view bytes);
  /// Why the bytes are no snapshot of this version; empty if they are.
  const std::string& damage() const noexcept { return damage_; }

  std::uint64_t number();
  std::uint64_t fixed();
  std::string_view text();
  std::chrono::system_clock::time_point time();
  engine::Value value() { return value_at(0); }
  /// A number of things that are still to come: each takes a byte at least.
  std::size_t count();
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return rest_.empty(); }

 private:
  engine::Value value_at(std::size_t depth);
  engine::Value string();
  engine::Value object(std::size_t depth);
  std::uint8_t byte();
  std::uint64_t refuse() noexcept {
    ok_ = false;
    rest_ = {};
    return 0;
  }

  std::string_view rest_;
  std::string damage_;
  bool ok_ = true;
  std::vector<engine::ShapePtr> shapes_;
};

}  // namespace dmm::view
