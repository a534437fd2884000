#include "dmm/view/snapshot_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "engine/limits.h"

namespace dmm::view {

using engine::Kind;
using engine::Value;
using engine::ValueRef;

namespace {

constexpr std::string_view kMagic = "dmmview\n";
constexpr std::size_t kSizeAt = kMagic.size() + 4;
constexpr std::size_t kHeadBytes = kSizeAt + 8;
constexpr std::size_t kChecksumBytes = 8;
constexpr std::uint8_t kLastKind = static_cast<std::uint8_t>(Kind::object);

std::uint64_t read_fixed(const char* bytes) noexcept {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 8; ++i) {
    value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return value;
}

void write_fixed(std::uint64_t value, char* bytes) noexcept {
  for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 0xFF);
}

std::uint64_t checksum(std::string_view bytes) noexcept {
  std::uint64_t state = 0x9E3779B97F4A7C15u;
  const auto take = [&state](std::uint64_t word) {
    state = std::rotl((state ^ word) * 0xD6E8FEB86659FD93u, 29);
  };
  while (bytes.size() >= 8) {
    take(read_fixed(bytes.data()));
    bytes.remove_prefix(8);
  }
  char tail[8] = {};
  if (!bytes.empty()) std::memcpy(tail, bytes.data(), bytes.size());
  take(read_fixed(tail));
  return state;
}

}  // namespace

SnapshotWriter::SnapshotWriter() : bytes_(kMagic) {
  for (unsigned i = 0; i < 4; ++i) bytes_ += static_cast<char>(kSnapshotVersion >> (8 * i) & 0xFF);
  bytes_.append(8, '\0');
}

void SnapshotWriter::number(std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7F) | 0x80);
  bytes_ += static_cast<char>(value);
}

void SnapshotWriter::fixed(std::uint64_t value) {
  char bytes[8];
  write_fixed(value, bytes);
  bytes_.append(bytes, sizeof bytes);
}

void SnapshotWriter::text(std::string_view bytes) {
  number(bytes.size());
  bytes_ += bytes;
}

void SnapshotWriter::time(std::chrono::system_clock::time_point time) {
  fixed(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count()));
}

void SnapshotWriter::value(ValueRef value) {
  bytes_ += static_cast<char>(value.kind);
  switch (value.kind) {
    case Kind::null:
      return;
    case Kind::boolean:
      bytes_ += static_cast<char>(value.as_bool());
      return;
    case Kind::integer: {
      const auto bits = static_cast<std::uint64_t>(value.as_integer());
      return number((bits << 1) ^ (value.as_integer() < 0 ? ~std::uint64_t{0} : 0));
    }
    case Kind::real:
      return fixed(value.bits);
    case Kind::string:
      return text(value.as_string());
    case Kind::list:
      number(value.size());
      break;
    case Kind::object: {
      const engine::Shape* shape = &value.shape();
      const auto [known, is_new] = shapes_.emplace(shape, shapes_.size());
      number(known->second);
      if (!is_new) break;
      number(shape->size());
      for (std::size_t i = 0; i < shape->size(); ++i) text(shape->key(i));
      break;
    }
  }
  for (std::size_t i = 0, n = value.size(); i < n; ++i) this->value(value.at(i));
}

std::string SnapshotWriter::finish() {
  write_fixed(bytes_.size() + kChecksumBytes, bytes_.data() + kSizeAt);
  fixed(checksum(bytes_));
  return std::move(bytes_);
}

SnapshotReader::SnapshotReader(std::string_view bytes) {
  if (!bytes.starts_with(kMagic) || bytes.size() < kHeadBytes + kChecksumBytes) {
    damage_ = "it is no snapshot of a view";
  } else if (const std::uint64_t size = read_fixed(bytes.data() + kSizeAt); size != bytes.size()) {
    damage_ = fmt::format("it has {} bytes, not {}", bytes.size(), size);
  } else {
    const std::string_view content = bytes.substr(0, bytes.size() - kChecksumBytes);
    std::uint32_t version = 0;
    for (unsigned i = 0; i < 4; ++i) {
      version |= std::uint32_t{static_cast<unsigned char>(bytes[kMagic.size() + i])} << (8 * i);
    }
    if (checksum(content) != read_fixed(bytes.data() + content.size())) {
      damage_ = "it is damaged: the checksum does not fit";
    } else if (version != kSnapshotVersion) {
      damage_ = fmt::format("it has format {}, not {}", version, kSnapshotVersion);
    } else {
      rest_ = content.substr(kHeadBytes);
    }
  }
  ok_ = damage_.empty();
}

std::uint8_t SnapshotReader::byte() {
  if (rest_.empty()) return static_cast<std::uint8_t>(refuse());
  const auto value = static_cast<std::uint8_t>(rest_.front());
  rest_.remove_prefix(1);
  return value;
}

std::uint64_t SnapshotReader::number() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const std::uint8_t part = byte();
    value |= static_cast<std::uint64_t>(part & 0x7F) << shift;
    if ((part & 0x80) == 0) return ok_ ? value : 0;
  }
  return refuse();
}

std::uint64_t SnapshotReader::fixed() {
  if (rest_.size() < 8) return refuse();
  const std::uint64_t value = read_fixed(rest_.data());
  rest_.remove_prefix(8);
  return value;
}

std::size_t SnapshotReader::count() {
  const std::uint64_t count = number();
  return count > rest_.size() ? refuse() : count;
}

std::string_view SnapshotReader::text() {
  const std::size_t size = count();
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

std::chrono::system_clock::time_point SnapshotReader::time() {
  const std::chrono::nanoseconds since(static_cast<std::int64_t>(fixed()));
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(since));
}

Value SnapshotReader::string() {
  const std::string_view bytes = text();
  if (bytes.size() > engine::limits::kStringBytesMax) refuse();
  return ok_ ? Value::string(bytes) : Value();
}

Value SnapshotReader::object(std::size_t depth) {
  const std::uint64_t index = number();
  if (index > shapes_.size()) refuse();
  if (ok_ && index == shapes_.size()) {
    std::vector<Value> keys(count());
    for (Value& key : keys) key = string();
    if (!ok_) return {};
    const auto wrong = std::adjacent_find(
        keys.begin(), keys.end(),
        [](const Value& a, const Value& b) { return a->as_string() >= b->as_string(); });
    if (wrong != keys.end()) {
      refuse();
    } else {
      shapes_.emplace_back(engine::Shape::make(std::move(keys)));
    }
  }
  if (!ok_) return {};
  const engine::ShapePtr shape = shapes_[index];
  return Value::object_of(*shape, [&](std::size_t) { return value_at(depth + 1); });
}

Value SnapshotReader::value_at(std::size_t depth) {
  const std::uint8_t kind = byte();
  if (depth > engine::limits::kStateDepthMax || kind > kLastKind) refuse();
  if (!ok_) return {};
  switch (static_cast<Kind>(kind)) {
    case Kind::null:
      return {};
    case Kind::boolean:
      return Value::boolean(byte() != 0);
    case Kind::integer: {
      const std::uint64_t bits = number();
      return Value::integer(static_cast<std::int64_t>((bits >> 1) ^ (~(bits & 1) + 1)));
    }
    case Kind::real: {
      const double real = ValueRef{fixed(), Kind::real}.as_double();
      if (!std::isfinite(real)) refuse();
      return ok_ ? Value::real(real) : Value();
    }
    case Kind::string:
      return string();
    case Kind::object:
      return object(depth);
    case Kind::list:
      break;
  }
  std::vector<Value> items(count());
  for (Value& item : items) item = value_at(depth + 1);
  return ok_ ? Value::list(items) : Value();
}

}  // namespace dmm::view
