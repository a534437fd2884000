/// Paths into documents: JSONPath rooted at `$` (the document) or `$$` (the subject).
///
/// Children (`.a`, `['a.b']`), indices (negative ones count from the end), slices, unions,
/// wildcards, filters (`[?(@.x=='y' && @.n > 1)]`) and recursive descent (`..a`, in document
/// order). A path that matches nothing is missing; one match is the value itself, several are a
/// list of values.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/value.h"

namespace dmm::engine {

class PathFilter;
namespace internal {
class PathParser;
}

struct PathSelector {
  enum class Type : std::uint8_t { member, index, slice, wildcard, filter };
  Type type = Type::member;
  std::string name;
  std::int64_t index = 0;  // index, or the start of a slice
  std::optional<std::int64_t> start;
  std::optional<std::int64_t> end;
  std::int64_t step = 1;
  std::shared_ptr<const PathFilter> filter;
};

struct PathSegment {
  bool descend = false;  // `..`: at this place and everywhere below it
  std::vector<PathSelector> selectors;
};

/// A parsed path. Immutable but for the shapes that it remembers; one thread at a time.
class Path {
 public:
  /// True for the texts that are paths in an expression: "$." and "$$." themselves and what starts
  /// with "$.", "$[", "$$." or "$$[".
  static bool is_path(std::string_view text) noexcept;
  /// throws Error when `text` is not a rooted path or is malformed; the message says where.
  static Path parse(std::string_view text);

  bool of_subject() const noexcept { return subject_; }
  /// "$." or "$$.": the root itself.
  bool is_root() const noexcept { return segments_.empty(); }
  /// Names, when the path consists of plain members only; else nothing.
  std::optional<std::vector<std::string>> members() const;
  /// The names that the path starts with, up to the first segment that is no plain member.
  std::vector<std::string> leading_members() const;
  const std::string& text() const noexcept { return text_; }

  /// Reads what the path points to below `root`. returns false when it is missing.
  bool get(ValueRef root, Value& out) const;
  /// True when the path consists of plain members only, so that find() can be used.
  bool is_plain() const noexcept { return plain_; }
  /// As get(), for a plain path: the value where it stands, without a reference of its own.
  bool find(ValueRef root, ValueRef& out) const noexcept {
    for (const Hop& hop : hops_) {
      if (root.kind != Kind::object) return false;
      const Shape& shape = root.shape();
      if (hop.shape.get() != &shape) hop.remember(shape);
      if (hop.slot < 0) return false;
      root = root.at(static_cast<std::size_t>(hop.slot));
    }
    out = root;
    return true;
  }
  /// True when the path resolves; a null counts.
  bool exists(ValueRef root) const;
  /// `root` with `value` put where the path points to; missing objects are made. returns false with
  /// the reason when the way leads through something that is neither object nor list.
  bool set(ValueRef root, const Value& value, Value& out, std::string& error) const;

 private:
  void collect(ValueRef at, std::size_t segment, ValueRef root, std::vector<Value>& found) const;
  bool set_at(ValueRef at, std::size_t segment, const Value& value, Value& out,
              std::string& error) const;

  // The shape met last and where it has the member: the usual case is then one comparison.
  struct Hop {
    std::string name;
    mutable ShapePtr shape;
    mutable std::int32_t slot = -1;
    void remember(const Shape& met) const noexcept;
  };
  std::string text_;
  bool subject_ = false;
  bool plain_ = true;
  std::vector<PathSegment> segments_;
  std::vector<Hop> hops_;
  friend class internal::PathParser;
};

/// The condition of a filter segment.
class PathFilter {
 public:
  enum class Type : std::uint8_t { either, both, negation, exists, compare };
  enum class Order : std::uint8_t { eq, ne, lt, le, gt, ge };
  struct Operand {
    std::shared_ptr<const Path> path;  // null: a literal
    bool from_root = false;
    Value literal;
  };
  bool test(ValueRef item, ValueRef root) const;

  Type type = Type::exists;
  Order order = Order::eq;
  std::vector<std::shared_ptr<const PathFilter>> parts;
  Operand left;
  Operand right;
};

}  // namespace dmm::engine
