/// Values: the JSON values that flow through the engine.
///
/// Invariants:
///  1. A value never changes after it was built; copies share it by a count that is not atomic.
///  2. Inside lists and objects a number has one form: integral and within int64 means `integer`,
///     so 1 and 1.0 are the same value at every depth. Only a value on its own may be a `real` with
///     an integral content (the result of `@float`); it still compares and hashes as the integer.
///  3. Members of an object are ordered by the bytes of their keys; a key occurs once.
///  4. `compare` is a total order and `compare == 0` is the identity of Z-set elements.
///
/// Threads: a value, and everything that shares parts with it, belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/hash.h"

namespace dmm::engine {

enum class Kind : std::uint8_t { null, boolean, integer, real, string, list, object };

/// The name of a kind as error messages spell it.
std::string_view kind_name(Kind kind) noexcept;

class Shape;

namespace internal {

struct Node {
  std::uint32_t refs;
  std::uint32_t hash;  // 0: not computed yet
};
struct StringNode : Node {
  std::uint32_t size;
  char* text() { return reinterpret_cast<char*>(this + 1); }
  const char* text() const { return reinterpret_cast<const char*>(this + 1); }
};
// Lists and objects: slots of eight bytes, then one kind byte for each.
struct SlotsNode : Node {
  std::uint64_t head;  // list: size; object: Shape*
  std::uint64_t* slots() { return reinterpret_cast<std::uint64_t*>(this + 1); }
  const std::uint64_t* slots() const { return reinterpret_cast<const std::uint64_t*>(this + 1); }
};

inline bool counted(Kind kind) noexcept {
  return kind >= Kind::string;
}
void destroy(std::uint64_t bits, Kind kind) noexcept;

}  // namespace internal

/// A borrowed value: valid while the value it was taken from lives. Trivial to copy.
struct ValueRef {
  std::uint64_t bits = 0;
  Kind kind = Kind::null;

  bool is_null() const noexcept { return kind == Kind::null; }
  bool is_number() const noexcept { return kind == Kind::integer || kind == Kind::real; }
  bool is_true() const noexcept { return kind == Kind::boolean && bits != 0; }
  bool as_bool() const noexcept { return bits != 0; }
  std::int64_t as_integer() const noexcept { return static_cast<std::int64_t>(bits); }
  /// The content of a number as a double (an integer is rounded to nearest).
  double as_double() const noexcept {
    if (kind == Kind::integer) return static_cast<double>(as_integer());
    double result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  }
  std::string_view as_string() const noexcept {
    const auto* node = reinterpret_cast<const internal::StringNode*>(bits);
    return {node->text(), node->size};
  }
  /// Elements of a list or members of an object; 0 for anything else.
  std::size_t size() const noexcept;
  /// Element `index` of a list, or the value of member `index` of an object. index < size().
  ValueRef at(std::size_t index) const noexcept {
    const auto* node = reinterpret_cast<const internal::SlotsNode*>(bits);
    const std::uint64_t* slots = node->slots();
    const auto* kinds = reinterpret_cast<const std::uint8_t*>(slots + size());
    return {slots[index], static_cast<Kind>(kinds[index])};
  }
  /// Key of member `index` of an object.
  std::string_view key(std::size_t index) const noexcept;
  const Shape& shape() const noexcept {
    return *reinterpret_cast<const Shape*>(
        reinterpret_cast<const internal::SlotsNode*>(bits)->head);
  }
  /// The member of an object, or false when `this` is no object or has no such key.
  bool find(std::string_view key, ValueRef& out) const noexcept;
};

/// An owned, immutable JSON value. 16 bytes; copying costs one non-atomic increment at most.
class Value {
 public:
  Value() noexcept = default;
  Value(const Value& other) noexcept : ref_(other.ref_) { retain(); }
  Value(Value&& other) noexcept : ref_(other.ref_) { other.ref_ = {}; }
  explicit Value(ValueRef ref) noexcept : ref_(ref) { retain(); }
  Value& operator=(const Value& other) noexcept {
    Value copy(other);
    std::swap(ref_, copy.ref_);
    return *this;
  }
  Value& operator=(Value&& other) noexcept {
    std::swap(ref_, other.ref_);
    return *this;
  }
  ~Value() { release(); }

  static Value boolean(bool value) noexcept { return adopt({value ? 1U : 0U, Kind::boolean}); }
  static Value integer(std::int64_t value) noexcept {
    return adopt({static_cast<std::uint64_t>(value), Kind::integer});
  }
  /// A floating-point number that stays one (see invariant 2). Must be finite.
  static Value real(double value) noexcept {
    ValueRef ref{0, Kind::real};
    std::memcpy(&ref.bits, &value, sizeof value);
    return adopt(ref);
  }
  /// A number in its one form: an integer when integral and within int64. Must be finite.
  static Value number(double value) noexcept { return real(value).canonical(); }
  static Value string(std::string_view text);
  static Value list(std::span<const Value> items);
  /// An object of `shape`; `values` in the order of the shape's keys.
  static Value object(const Shape& shape, std::span<const Value> values);
  /// An object of `shape` whose member i is what part(i) gives; called in order.
  template <class Part>
  static Value object_of(const Shape& shape, const Part& part);
  /// Takes over a reference that the caller already owns.
  static Value adopt(ValueRef ref) noexcept {
    Value result;
    result.ref_ = ref;
    return result;
  }
  /// Gives the reference away; the caller owns it now.
  ValueRef release_ref() noexcept { return std::exchange(ref_, ValueRef{}); }

  /// This value with invariant 2 applied: what a list or an object would store.
  Value canonical() const noexcept;

  operator ValueRef() const noexcept { return ref_; }
  ValueRef ref() const noexcept { return ref_; }
  const ValueRef* operator->() const noexcept { return &ref_; }
  Kind kind() const noexcept { return ref_.kind; }

 private:
  void retain() const noexcept {
    if (internal::counted(ref_.kind)) ++reinterpret_cast<internal::Node*>(ref_.bits)->refs;
  }
  void release() noexcept {
    if (internal::counted(ref_.kind) && --reinterpret_cast<internal::Node*>(ref_.bits)->refs == 0)
      internal::destroy(ref_.bits, ref_.kind);
  }
  ValueRef ref_;
};

/// The sorted keys of an object, shared by all objects of one make ("hidden class"). A field that
/// was found once in a shape is found again by comparing one pointer.
class Shape {
 public:
  /// keys: distinct, sorted by bytes; all strings. The result has one reference, owned by the
  /// caller.
  static Shape* make(std::vector<Value> keys);
  std::size_t size() const noexcept { return keys_.size(); }
  std::string_view key(std::size_t index) const noexcept { return keys_[index]->as_string(); }
  const std::vector<Value>& keys() const noexcept { return keys_; }
  /// Position of `key`, or -1. O(log size).
  std::int32_t find(std::string_view key) const noexcept;
  std::uint32_t hash() const noexcept { return hash_; }
  bool same_keys(const Shape& other) const noexcept;
  void retain() const noexcept { ++refs_; }
  void release() const noexcept {
    if (--refs_ == 0) delete this;
  }

 private:
  Shape() = default;
  ~Shape() = default;
  mutable std::uint32_t refs_ = 1;
  std::uint32_t hash_ = 0;
  std::vector<Value> keys_;
};

/// Owns one reference to a shape.
class ShapePtr {
 public:
  ShapePtr() noexcept = default;
  /// Takes over the reference of Shape::make.
  explicit ShapePtr(Shape* made) noexcept : shape_(made) {}
  ShapePtr(const ShapePtr& other) noexcept : shape_(other.shape_) {
    if (shape_) shape_->retain();
  }
  ShapePtr(ShapePtr&& other) noexcept : shape_(std::exchange(other.shape_, nullptr)) {}
  ShapePtr& operator=(ShapePtr other) noexcept {
    std::swap(shape_, other.shape_);
    return *this;
  }
  ~ShapePtr() {
    if (shape_) shape_->release();
  }
  static ShapePtr share(const Shape& shape) noexcept {
    shape.retain();
    return ShapePtr(const_cast<Shape*>(&shape));
  }
  const Shape* get() const noexcept { return shape_; }
  const Shape& operator*() const noexcept { return *shape_; }
  const Shape* operator->() const noexcept { return shape_; }
  explicit operator bool() const noexcept { return shape_ != nullptr; }

 private:
  Shape* shape_ = nullptr;
};

namespace internal {

/// A new list or object whose slots are filled one after the other.
class SlotsBuilder {
 public:
  explicit SlotsBuilder(std::size_t size);
  explicit SlotsBuilder(const Shape& shape);
  SlotsBuilder(const SlotsBuilder&) = delete;
  SlotsBuilder& operator=(const SlotsBuilder&) = delete;
  ~SlotsBuilder() {
    if (node_ != nullptr) abandon();
  }
  void add(Value value) noexcept {
    if (value.kind() == Kind::real) value = value.canonical();
    const ValueRef ref = value.release_ref();
    node_->slots()[filled_] = ref.bits;
    reinterpret_cast<std::uint8_t*>(node_->slots() + size_)[filled_++] =
        static_cast<std::uint8_t>(ref.kind);
  }
  /// The value; all slots must be filled.
  Value finish() noexcept {
    return Value::adopt({reinterpret_cast<std::uint64_t>(std::exchange(node_, nullptr)), kind_});
  }

 private:
  void abandon() noexcept;
  SlotsNode* node_;
  std::size_t size_;
  std::size_t filled_ = 0;
  Kind kind_;
};

}  // namespace internal

template <class Part>
Value Value::object_of(const Shape& shape, const Part& part) {
  internal::SlotsBuilder builder(shape);
  for (std::size_t i = 0, n = shape.size(); i < n; ++i) builder.add(part(i));
  return builder.finish();
}

inline std::size_t ValueRef::size() const noexcept {
  const auto* node = reinterpret_cast<const internal::SlotsNode*>(bits);
  if (kind == Kind::object) return reinterpret_cast<const Shape*>(node->head)->size();
  return kind == Kind::list ? node->head : 0;
}
inline std::string_view ValueRef::key(std::size_t index) const noexcept {
  return shape().key(index);
}

/// Memory that a value needs beyond itself, as if nothing of it were shared: texts, lists and
/// objects with what is in them; not the shapes of objects. O(size).
std::size_t memory_of(ValueRef value) noexcept;

/// Collects members in any order; a later value of the same key wins.
class ObjectBuilder {
 public:
  void set(std::string_view key, Value value);
  void set(Value key, Value value);
  bool empty() const noexcept { return members_.empty(); }
  Value build();

 private:
  std::vector<std::pair<Value, Value>> members_;
};

/// The canonical order: null < booleans < numbers < strings (bytes) < lists < objects. Numbers
/// compare by exact value; lists element by element; objects as sorted lists of key and value.
int compare(ValueRef a, ValueRef b) noexcept;
namespace internal {
bool equal_content(ValueRef a, ValueRef b) noexcept;
std::uint32_t hash_content(ValueRef value) noexcept;
}  // namespace internal
inline bool equal(ValueRef a, ValueRef b) noexcept {
  if (a.kind == b.kind) {
    if (a.bits == b.bits) return true;
    if (a.kind <= Kind::integer) return false;
  }
  return internal::equal_content(a, b);
}
inline bool operator==(const Value& a, const Value& b) noexcept {
  return equal(a, b);
}

/// 32 bits, never 0; equal values have equal hashes. Cached in strings, lists and objects. The
/// identity of a value is never decided by the hash alone.
inline std::uint32_t hash(ValueRef value) noexcept {
  if (internal::counted(value.kind))
    if (const auto known = reinterpret_cast<const internal::Node*>(value.bits)->hash; known != 0)
      return known;
  return internal::hash_content(value);
}

/// Canonical JSON text: sorted keys, no white space, shortest numbers that read back the same.
std::string to_text(ValueRef value);
void append_text(ValueRef value, std::string& out);
/// The shortest decimal text of a finite double that reads back as it: an integer within int64 in
/// all its digits, exponent form below 1e-6 and beyond int64.
std::string number_text(double value);

/// Order of canonical JSON texts, byte by byte: what `@lexmin` and `@lexmax` compare by.
int compare_text(ValueRef a, ValueRef b);

namespace internal {

/// The hash of an object or a list, from the hashes of its members in order.
class PartsHash {
 public:
  /// shape: of the object; null for a list.
  explicit PartsHash(const Shape* shape) noexcept
      : state_(shape != nullptr ? shape->hash() : 0x8EBC6AF09C88C6E3ULL) {}
  void add(std::uint32_t part) noexcept { state_ = mix(state_ + ++parts_, part); }
  std::uint32_t result() const noexcept;

 private:
  std::uint64_t state_;
  std::uint64_t parts_ = 0;
};

}  // namespace internal

/// Interop with nlohmann::json, for program texts and tools; documents are decoded by decode.h.
nlohmann::json to_json(ValueRef value);
/// throws Error for a number out of range or a string that is not UTF-8.
Value from_json(const nlohmann::json& json);

/// True when lists and objects nest at most `levels` deep. O(content).
bool nests_within(ValueRef value, std::size_t levels) noexcept;

/// `object` with `key` set to `value`; an object of its own when `object` is null. O(members).
Value with_member(ValueRef object, std::string_view key, const Value& value);

}  // namespace dmm::engine
