#include "engine/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/limits.h"
#include "engine/node_cache_internal.h"

namespace dmm::engine {
namespace {

using internal::Node;
using internal::SlotsNode;
using internal::StringNode;

std::size_t bytes_of_string(std::size_t size) noexcept {
  return sizeof(StringNode) + size;
}
std::size_t bytes_of_slots(std::size_t size) noexcept {
  return sizeof(SlotsNode) + size * 9;
}

SlotsNode* new_slots(std::size_t size, std::uint64_t head) {
  auto* node = static_cast<SlotsNode*>(internal::take_node(bytes_of_slots(size)));
  node->refs = 1;
  node->hash = 0;
  node->head = head;
  return node;
}

ValueRef ref_of(const Node* node, Kind kind) noexcept {
  return {reinterpret_cast<std::uint64_t>(node), kind};
}

template <class T>
int three_way(T a, T b) noexcept {
  return a < b ? -1 : (b < a ? 1 : 0);
}

int compare_bytes(std::string_view a, std::string_view b) noexcept {
  const int order = a.compare(b);
  return order < 0 ? -1 : (order > 0 ? 1 : 0);
}

// Exact: a double at or beyond 2^63 is outside of int64, anything else is cut and compared.
int compare_numbers(std::int64_t a, double b) noexcept {
  if (b >= 0x1p63) return -1;
  if (b < -0x1p63) return 1;
  const double whole = std::trunc(b);
  const auto cut = static_cast<std::int64_t>(whole);
  if (a != cut) return a < cut ? -1 : 1;
  return three_way(whole, b);
}

int rank(Kind kind) noexcept {
  return kind == Kind::real ? static_cast<int>(Kind::integer) : static_cast<int>(kind);
}

int compare_objects(ValueRef a, ValueRef b) noexcept {
  const std::size_t common = std::min(a.size(), b.size());
  const bool same = &a.shape() == &b.shape();
  for (std::size_t i = 0; i < common; ++i) {
    if (!same)
      if (const int order = compare_bytes(a.key(i), b.key(i)); order != 0) return order;
    if (const int order = compare(a.at(i), b.at(i)); order != 0) return order;
  }
  return three_way(a.size(), b.size());
}

std::uint32_t fold(std::uint64_t state) noexcept {
  const auto folded = static_cast<std::uint32_t>(state ^ (state >> 32));
  return folded == 0 ? 1 : folded;
}

bool is_integral(double value) noexcept {
  return value >= -0x1p63 && value < 0x1p63 && std::trunc(value) == value;
}

void append_string(std::string_view text, std::string& out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += kDigits[(static_cast<unsigned char>(c) >> 4) & 15];
          out += kDigits[static_cast<unsigned char>(c) & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

}  // namespace

std::string_view kind_name(Kind kind) noexcept {
  static constexpr std::string_view kNames[] = {"null",   "bool", "int",   "float",
                                                "string", "list", "object"};
  return kNames[static_cast<std::size_t>(kind)];
}

void internal::destroy(std::uint64_t bits, Kind kind) noexcept {
  auto* node = reinterpret_cast<Node*>(bits);
  const ValueRef ref = ref_of(node, kind);
  if (kind == Kind::string) return give_node(node, bytes_of_string(ref.as_string().size()));
  const std::size_t size = ref.size();
  for (std::size_t i = 0; i < size; ++i) Value::adopt(ref.at(i));
  if (kind == Kind::object) ref.shape().release();
  give_node(node, bytes_of_slots(size));
}

bool ValueRef::find(std::string_view key, ValueRef& out) const noexcept {
  if (kind != Kind::object) return false;
  const std::int32_t index = shape().find(key);
  if (index < 0) return false;
  out = at(static_cast<std::size_t>(index));
  return true;
}

Value Value::string(std::string_view text) {
  if (text.size() > limits::kStringBytesMax) throw Error("string longer than the limit");
  auto* node = static_cast<StringNode*>(internal::take_node(bytes_of_string(text.size())));
  node->refs = 1;
  node->hash = 0;
  node->size = static_cast<std::uint32_t>(text.size());
  if (!text.empty()) std::memcpy(node->text(), text.data(), text.size());
  return adopt(ref_of(node, Kind::string));
}

internal::SlotsBuilder::SlotsBuilder(std::size_t size)
    : node_(new_slots(size, size)), size_(size), kind_(Kind::list) {}

internal::SlotsBuilder::SlotsBuilder(const Shape& shape)
    : node_(new_slots(shape.size(), reinterpret_cast<std::uint64_t>(&shape))),
      size_(shape.size()),
      kind_(Kind::object) {
  shape.retain();
}

// The slots that are not filled become null, and the value is destroyed as a whole.
void internal::SlotsBuilder::abandon() noexcept {
  while (filled_ < size_) add({});
  finish();
}

Value Value::list(std::span<const Value> items) {
  internal::SlotsBuilder builder(items.size());
  for (const Value& item : items) builder.add(item);
  return builder.finish();
}

Value Value::object(const Shape& shape, std::span<const Value> values) {
  internal::SlotsBuilder builder(shape);
  for (const Value& value : values) builder.add(value);
  return builder.finish();
}

Value Value::canonical() const noexcept {
  if (ref_.kind == Kind::real) {
    const double content = ref_.as_double();
    if (is_integral(content)) return integer(static_cast<std::int64_t>(content));
  }
  return *this;
}

Shape* Shape::make(std::vector<Value> keys) {
  auto* shape = new Shape;
  std::uint64_t state = mix(0x51ED270B8D1A6A33ULL, keys.size() + 1);
  for (const Value& key : keys) state = mix(state, engine::hash(key));
  shape->keys_ = std::move(keys);
  shape->hash_ = fold(state);
  return shape;
}

std::int32_t Shape::find(std::string_view key) const noexcept {
  if (keys_.size() <= 8) {
    for (std::size_t i = 0; i < keys_.size(); ++i)
      if (this->key(i) == key) return static_cast<std::int32_t>(i);
    return -1;
  }
  const auto it =
      std::lower_bound(keys_.begin(), keys_.end(), key,
                       [](const Value& a, std::string_view b) { return a->as_string() < b; });
  if (it == keys_.end() || (*it)->as_string() != key) return -1;
  return static_cast<std::int32_t>(it - keys_.begin());
}

bool Shape::same_keys(const Shape& other) const noexcept {
  if (this == &other) return true;
  if (hash_ != other.hash_ || keys_.size() != other.keys_.size()) return false;
  for (std::size_t i = 0; i < keys_.size(); ++i)
    if (key(i) != other.key(i)) return false;
  return true;
}

void ObjectBuilder::set(std::string_view key, Value value) {
  set(Value::string(key), std::move(value));
}

void ObjectBuilder::set(Value key, Value value) {
  members_.emplace_back(std::move(key), std::move(value));
}

Value ObjectBuilder::build() {
  std::stable_sort(members_.begin(), members_.end(), [](const auto& a, const auto& b) {
    return a.first->as_string() < b.first->as_string();
  });
  std::vector<Value> keys;
  std::vector<Value> values;
  for (auto& [key, value] : members_) {
    if (!keys.empty() && keys.back()->as_string() == key->as_string()) {
      values.back() = std::move(value);
      continue;
    }
    keys.push_back(std::move(key));
    values.push_back(std::move(value));
  }
  members_.clear();
  const ShapePtr shape(Shape::make(std::move(keys)));
  return Value::object(*shape, values);
}

std::size_t memory_of(ValueRef value) noexcept {
  if (value.kind == Kind::string) {
    return sizeof(internal::StringNode) + value.as_string().size();
  }
  if (value.kind != Kind::list && value.kind != Kind::object) return 0;
  const std::size_t size = value.size();
  std::size_t bytes = sizeof(internal::SlotsNode) + size * (sizeof(std::uint64_t) + 1);
  for (std::size_t i = 0; i < size; ++i) bytes += memory_of(value.at(i));
  return bytes;
}

int compare(ValueRef a, ValueRef b) noexcept {
  if (rank(a.kind) != rank(b.kind)) return rank(a.kind) < rank(b.kind) ? -1 : 1;
  switch (a.kind) {
    case Kind::null:
      return 0;
    case Kind::boolean:
      return three_way(a.bits, b.bits);
    case Kind::integer:
      if (b.kind == Kind::integer) return three_way(a.as_integer(), b.as_integer());
      return compare_numbers(a.as_integer(), b.as_double());
    case Kind::real:
      if (b.kind == Kind::integer) return -compare_numbers(b.as_integer(), a.as_double());
      return three_way(a.as_double(), b.as_double());
    case Kind::string:
      return a.bits == b.bits ? 0 : compare_bytes(a.as_string(), b.as_string());
    case Kind::list: {
      if (a.bits == b.bits) return 0;
      const std::size_t common = std::min(a.size(), b.size());
      for (std::size_t i = 0; i < common; ++i)
        if (const int order = compare(a.at(i), b.at(i)); order != 0) return order;
      return three_way(a.size(), b.size());
    }
    case Kind::object:
      return a.bits == b.bits ? 0 : compare_objects(a, b);
  }
  return 0;
}

bool internal::equal_content(ValueRef a, ValueRef b) noexcept {
  if (a.kind != b.kind) return rank(a.kind) == rank(b.kind) && compare(a, b) == 0;
  if (a.bits == b.bits) return true;
  if (a.kind == Kind::real) return a.as_double() == b.as_double();
  if (!internal::counted(a.kind)) return false;
  const auto* left = reinterpret_cast<const Node*>(a.bits);
  const auto* right = reinterpret_cast<const Node*>(b.bits);
  if (left->hash != 0 && right->hash != 0 && left->hash != right->hash) return false;
  if (a.kind == Kind::string) return a.as_string() == b.as_string();
  if (a.kind == Kind::object && !a.shape().same_keys(b.shape())) return false;
  const std::size_t size = a.size();
  if (size != b.size()) return false;
  for (std::size_t i = 0; i < size; ++i)
    if (!equal(a.at(i), b.at(i))) return false;
  return true;
}

std::uint32_t internal::hash_content(ValueRef value) noexcept {
  switch (value.kind) {
    case Kind::null:
      return 0x9E3779B9U;
    case Kind::boolean:
      return value.bits != 0 ? 0x85EBCA6BU : 0xC2B2AE35U;
    case Kind::real:
      if (const double content = value.as_double(); is_integral(content))
        return hash(Value::integer(static_cast<std::int64_t>(content)));
      return fold(mix(0xA0761D6478BD642FULL, value.bits));
    case Kind::integer:
      return fold(mix(0xE7037ED1A0B428DBULL, value.bits));
    default:
      break;
  }
  auto* node = reinterpret_cast<Node*>(value.bits);
  if (value.kind == Kind::string) return node->hash = fold(hash_bytes(value.as_string()));
  internal::PartsHash parts(value.kind == Kind::object ? &value.shape() : nullptr);
  for (std::size_t i = 0, n = value.size(); i < n; ++i) parts.add(hash(value.at(i)));
  return node->hash = parts.result();
}

std::uint32_t internal::PartsHash::result() const noexcept {
  return fold(state_);
}

std::string number_text(double value) {
  // Whatever is an integer reads as the integer that it equals, digit by digit.
  if (is_integral(value)) return std::to_string(static_cast<std::int64_t>(value));
  char buffer[64];
  const auto write = [&](std::chars_format format) {
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  };
  const double size = std::abs(value);
  if (size >= 1e-6 && size < 0x1p63) return write(std::chars_format::fixed);
  std::string text = write(std::chars_format::scientific);
  // "1e-07" is "1e-7" here.
  const std::size_t digits = text.find('e') + 2;
  text.erase(digits, text.find_first_not_of('0', digits) - digits);
  return text;
}

void append_text(ValueRef value, std::string& out) {
  switch (value.kind) {
    case Kind::null:
      out += "null";
      return;
    case Kind::boolean:
      out += value.as_bool() ? "true" : "false";
      return;
    case Kind::integer:
      out += std::to_string(value.as_integer());
      return;
    case Kind::real:
      out += number_text(value.as_double());
      return;
    case Kind::string:
      append_string(value.as_string(), out);
      return;
    case Kind::list:
      out += '[';
      for (std::size_t i = 0, n = value.size(); i < n; ++i) {
        if (i != 0) out += ',';
        append_text(value.at(i), out);
      }
      out += ']';
      return;
    case Kind::object:
      out += '{';
      for (std::size_t i = 0, n = value.size(); i < n; ++i) {
        if (i != 0) out += ',';
        append_string(value.key(i), out);
        out += ':';
        append_text(value.at(i), out);
      }
      out += '}';
      return;
  }
}

std::string to_text(ValueRef value) {
  std::string out;
  append_text(value, out);
  return out;
}

int compare_text(ValueRef a, ValueRef b) {
  if (equal(a, b)) return 0;
  return compare_bytes(to_text(a), to_text(b));
}

nlohmann::json to_json(ValueRef value) {
  switch (value.kind) {
    case Kind::null:
      return nullptr;
    case Kind::boolean:
      return value.as_bool();
    case Kind::integer:
      return value.as_integer();
    case Kind::real:
      return value.as_double();
    case Kind::string:
      return std::string(value.as_string());
    case Kind::list: {
      auto result = nlohmann::json::array();
      for (std::size_t i = 0, n = value.size(); i < n; ++i) result.push_back(to_json(value.at(i)));
      return result;
    }
    case Kind::object:
      break;
  }
  auto result = nlohmann::json::object();
  for (std::size_t i = 0, n = value.size(); i < n; ++i)
    result[std::string(value.key(i))] = to_json(value.at(i));
  return result;
}

Value from_json(const nlohmann::json& json) {
  using Type = nlohmann::json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return Value::boolean(json.get<bool>());
    case Type::number_integer:
      return Value::integer(json.get<std::int64_t>());
    case Type::number_unsigned:
      if (json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
        throw Error("integer out of range: " + json.dump());
      return Value::integer(json.get<std::int64_t>());
    case Type::number_float:
      if (!std::isfinite(json.get<double>())) throw Error("number out of range");
      return Value::number(json.get<double>());
    case Type::string:
      return Value::string(json.get_ref<const std::string&>());
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item));
      return Value::list(items);
    }
    case Type::object: {
      ObjectBuilder builder;
      for (const auto& [key, value] : json.items()) builder.set(key, from_json(value));
      return builder.build();
    }
    default:
      return {};
  }
}

bool nests_within(ValueRef value, std::size_t levels) noexcept {
  if (value.kind != Kind::list && value.kind != Kind::object) return true;
  if (levels == 0) return false;
  for (std::size_t i = 0, n = value.size(); i < n; ++i)
    if (!nests_within(value.at(i), levels - 1)) return false;
  return true;
}

Value with_member(ValueRef object, std::string_view key, const Value& value) {
  if (object.kind != Kind::object) {
    ObjectBuilder builder;
    builder.set(key, value);
    return builder.build();
  }
  std::vector<Value> values;
  values.reserve(object.size() + 1);
  for (std::size_t i = 0, n = object.size(); i < n; ++i) values.emplace_back(object.at(i));
  if (const std::int32_t at = object.shape().find(key); at >= 0) {
    values[static_cast<std::size_t>(at)] = value;
    return Value::object(object.shape(), values);
  }
  std::vector<Value> keys = object.shape().keys();
  const auto spot =
      std::lower_bound(keys.begin(), keys.end(), key,
                       [](const Value& a, std::string_view b) { return a->as_string() < b; });
  values.insert(values.begin() + (spot - keys.begin()), value);
  keys.insert(spot, Value::string(key));
  const ShapePtr shape(Shape::make(std::move(keys)));
  return Value::object(*shape, values);
}

}  // namespace dmm::engine
