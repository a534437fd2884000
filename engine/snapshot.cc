#include "engine/snapshot.h"

#include <cmath>

#include "engine/expression/sha256_internal.h"
#include "engine/limits.h"

namespace dmm::engine {
namespace {

constexpr std::size_t kChecksumBytes = 32;

}  // namespace

void StateWriter::number(std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7F) | 0x80);
  bytes_ += static_cast<char>(value);
}

void StateWriter::integer(std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  number((bits << 1) ^ (value < 0 ? ~std::uint64_t{0} : 0));
}

void StateWriter::text(std::string_view bytes) {
  number(bytes.size());
  bytes_ += bytes;
}

void StateWriter::value(ValueRef value) {
  bytes_ += static_cast<char>(value.kind);
  switch (value.kind) {
    case Kind::null:
      return;
    case Kind::boolean:
      bytes_ += static_cast<char>(value.bits);
      return;
    case Kind::integer:
      integer(value.as_integer());
      return;
    case Kind::real:
      for (int shift = 0; shift < 64; shift += 8)
        bytes_ += static_cast<char>((value.bits >> shift) & 255);
      return;
    case Kind::string:
      text(value.as_string());
      return;
    case Kind::list:
    case Kind::object:
      break;
  }
  number(value.size());
  for (std::size_t i = 0, n = value.size(); i < n; ++i) {
    if (value.kind == Kind::object) text(value.key(i));
    this->value(value.at(i));
  }
}

void StateWriter::batch(const Batch& batch) {
  number(batch.size());
  for (const Row& row : batch) {
    value(row.value);
    integer(row.weight);
  }
}

void StateWriter::zset(const Zset& zset) {
  batch(zset.rows());
}

std::string StateWriter::finish() {
  const auto checksum = internal::sha256(bytes_);
  bytes_.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  return std::move(bytes_);
}

bool StateReader::verify() {
  if (rest_.size() < kChecksumBytes) return refuse();
  const std::string_view content = rest_.substr(0, rest_.size() - kChecksumBytes);
  const auto expected = internal::sha256(content);
  const std::string_view found = rest_.substr(content.size());
  if (found != std::string_view(reinterpret_cast<const char*>(expected.data()), expected.size()))
    return refuse();
  rest_ = content;
  return true;
}

std::uint8_t StateReader::byte() {
  if (rest_.empty()) {
    refuse();
    return 0;
  }
  const auto value = static_cast<std::uint8_t>(rest_.front());
  rest_.remove_prefix(1);
  return value;
}

std::uint64_t StateReader::number() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const std::uint8_t part = byte();
    value |= static_cast<std::uint64_t>(part & 0x7F) << shift;
    if ((part & 0x80) == 0) return value;
  }
  refuse();
  return 0;
}

std::int64_t StateReader::integer() {
  const std::uint64_t bits = number();
  return static_cast<std::int64_t>((bits >> 1) ^ (~(bits & 1) + 1));
}

std::string_view StateReader::text() {
  const std::uint64_t size = number();
  if (size > rest_.size()) {
    refuse();
    return {};
  }
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

Value StateReader::value_at(std::size_t depth) {
  const std::uint8_t kind = byte();
  if (depth > limits::kStateDepthMax || kind > static_cast<std::uint8_t>(Kind::object)) refuse();
  if (!ok_) return {};
  switch (static_cast<Kind>(kind)) {
    case Kind::null:
      return {};
    case Kind::boolean:
      return Value::boolean(byte() != 0);
    case Kind::integer:
      return Value::integer(integer());
    case Kind::real: {
      ValueRef ref{0, Kind::real};
      for (int shift = 0; shift < 64; shift += 8) ref.bits |= std::uint64_t{byte()} << shift;
      if (!std::isfinite(ref.as_double())) refuse();
      return ok_ ? Value::number(ref.as_double()) : Value();
    }
    case Kind::string: {
      const std::string_view bytes = text();
      if (bytes.size() > limits::kStringBytesMax) refuse();
      return ok_ ? Value::string(bytes) : Value();
    }
    default:
      break;
  }
  const std::uint64_t size = number();
  if (size > rest_.size()) refuse();
  std::vector<Value> items;
  ObjectBuilder members;
  for (std::uint64_t i = 0; ok_ && i < size; ++i) {
    if (static_cast<Kind>(kind) == Kind::list) {
      items.push_back(value_at(depth + 1));
    } else {
      const std::string key(text());
      members.set(key, value_at(depth + 1));
    }
  }
  if (!ok_) return {};
  return static_cast<Kind>(kind) == Kind::list ? Value::list(items) : members.build();
}

Batch StateReader::batch() {
  Batch result;
  const std::uint64_t size = number();
  if (size > rest_.size()) refuse();
  for (std::uint64_t i = 0; ok_ && i < size; ++i) {
    Row row;
    row.value = value();
    row.weight = integer();
    result.push_back(std::move(row));
  }
  return result;
}

bool StateReader::zset(Zset& out) {
  out.clear();
  const Batch rows = batch();
  return (ok_ && out.add(rows)) || refuse();
}

}  // namespace dmm::engine
