/// State images: how the state of a circuit is written and read back.
///
/// Layout: magic "dmmstate", format version, fingerprint of the circuit, the nodes with their
/// state, then the SHA-256 of all before. Every flipped byte is detected; an image of another
/// circuit or of another format version is refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/zset.h"

namespace dmm::engine {

inline constexpr std::uint32_t kStateVersion = 1;

class StateWriter {
 public:
  void number(std::uint64_t value);  ///< seven bits a byte
  void integer(std::int64_t value);
  void text(std::string_view bytes);
  void value(ValueRef value);
  void batch(const Batch& batch);
  void zset(const Zset& zset);
  const std::string& bytes() const noexcept { return bytes_; }
  /// Adds the checksum and gives the image away.
  std::string finish();

 private:
  std::string bytes_;
};

/// Reads what StateWriter wrote. After the first error every read gives nothing and ok() is false.
class StateReader {
 public:
  explicit StateReader(std::string_view bytes) : rest_(bytes) {}
  /// Checks and removes the checksum. returns false when it does not fit.
  bool verify();
  std::uint64_t number();
  std::int64_t integer();
  std::string_view text();
  Value value() { return value_at(0); }
  Batch batch();
  bool zset(Zset& out);
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return rest_.empty(); }

 private:
  Value value_at(std::size_t depth);
  std::uint8_t byte();
  bool refuse() noexcept {
    ok_ = false;
    rest_ = {};
    return false;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace dmm::engine
