#include "engine/expression/path.h"

#include <algorithm>
#include <charconv>

#include "engine/error.h"
#include "engine/expression/path_parser_internal.h"
#include "engine/limits.h"

namespace dmm::engine {
namespace {

using Type = PathSelector::Type;

bool plain(const PathSegment& segment) {
  return !segment.descend && segment.selectors.size() == 1 &&
         segment.selectors.front().type == Type::member;
}

std::int64_t clamp(std::int64_t at, std::int64_t low, std::int64_t high) {
  return std::min(std::max(at, low), high);
}

// Positions that a slice selects, as in Python.
std::vector<std::size_t> slice_positions(const PathSelector& slice, std::size_t size) {
  const auto n = static_cast<std::int64_t>(size);
  const auto absolute = [n](std::int64_t at) { return at < 0 ? at + n : at; };
  std::vector<std::size_t> result;
  if (slice.step > 0) {
    const std::int64_t end = clamp(absolute(slice.end.value_or(n)), 0, n);
    for (std::int64_t i = clamp(absolute(slice.start.value_or(0)), 0, n); i < end;
         i += slice.step) {
      result.push_back(static_cast<std::size_t>(i));
      if (slice.step > n) break;
    }
  } else {
    const std::int64_t end = slice.end ? clamp(absolute(*slice.end), -1, n - 1) : -1;
    for (std::int64_t i = clamp(absolute(slice.start.value_or(n - 1)), -1, n - 1); i > end;
         i += slice.step) {
      result.push_back(static_cast<std::size_t>(i));
      if (slice.step < -n) break;
    }
  }
  return result;
}

bool position(const PathSelector& selector, std::size_t size, std::size_t& out) {
  const auto n = static_cast<std::int64_t>(size);
  const std::int64_t at = selector.index < 0 ? selector.index + n : selector.index;
  if (at < 0 || at >= n) return false;
  out = static_cast<std::size_t>(at);
  return true;
}

template <class Visit>
void select(ValueRef at, const PathSelector& selector, ValueRef root, const Visit& visit) {
  switch (selector.type) {
    case Type::member:
      if (ValueRef found; at.find(selector.name, found)) visit(found);
      return;
    case Type::index:
      if (std::size_t i; at.kind == Kind::list && position(selector, at.size(), i)) visit(at.at(i));
      return;
    case Type::slice:
      if (at.kind != Kind::list) return;
      for (const std::size_t i : slice_positions(selector, at.size())) visit(at.at(i));
      return;
    case Type::wildcard:
      for (std::size_t i = 0, n = at.size(); i < n; ++i) visit(at.at(i));
      return;
    case Type::filter:
      for (std::size_t i = 0, n = at.size(); i < n; ++i)
        if (selector.filter->test(at.at(i), root)) visit(at.at(i));
      return;
  }
}

}  // namespace

bool Path::is_path(std::string_view text) noexcept {
  if (!text.empty() && text.front() == '$')
    text.remove_prefix(1);
  else
    return false;
  if (!text.empty() && text.front() == '$') text.remove_prefix(1);
  return !text.empty() && (text.front() == '.' || text.front() == '[');
}

Path Path::parse(std::string_view text) {
  Path path;
  path.text_ = text;
  if (text == "$" || text == "$$")
    path.text_ += '.';
  else if (!is_path(text))
    throw Error("\"" + std::string(text.substr(0, 100)) +
                "\" must be a JSONPath rooted at $ (document) or $$ (subject)");
  path.subject_ = path.text_.starts_with("$$");
  std::string_view rest = path.text_;
  rest.remove_prefix(path.subject_ ? 2 : 1);
  if (rest != ".") {
    internal::PathParser parser(rest, path.text_);
    path.segments_ = parser.parse_all();
  }
  for (const PathSegment& segment : path.segments_) {
    if (!plain(segment)) path.plain_ = false;
  }
  if (path.plain_)
    for (const PathSegment& segment : path.segments_)
      path.hops_.push_back(Hop{segment.selectors.front().name, {}, -1});
  return path;
}

std::vector<std::string> Path::leading_members() const {
  std::vector<std::string> names;
  for (const PathSegment& segment : segments_) {
    if (!plain(segment)) break;
    names.push_back(segment.selectors.front().name);
  }
  return names;
}

std::optional<std::vector<std::string>> Path::members() const {
  if (!plain_) return std::nullopt;
  return leading_members();
}

void Path::Hop::remember(const Shape& met) const noexcept {
  slot = met.find(name);
  shape = ShapePtr::share(met);
}

bool Path::get(ValueRef root, Value& out) const {
  if (plain_) {
    ValueRef found;
    if (!find(root, found)) return false;
    out = Value(found);
    return true;
  }
  std::vector<Value> found;
  collect(root, 0, root, found);
  if (found.empty()) return false;
  out = found.size() == 1 ? found.front() : Value::list(found);
  return true;
}

bool Path::exists(ValueRef root) const {
  if (plain_) {
    ValueRef found;
    return find(root, found);
  }
  std::vector<Value> found;
  collect(root, 0, root, found);
  return !found.empty();
}

void Path::collect(ValueRef at, std::size_t segment, ValueRef root,
                   std::vector<Value>& found) const {
  if (segment == segments_.size()) {
    found.emplace_back(at);
    return;
  }
  const PathSegment& here = segments_[segment];
  for (const PathSelector& selector : here.selectors)
    select(at, selector, root, [&](ValueRef next) { collect(next, segment + 1, root, found); });
  if (here.descend && (at.kind == Kind::list || at.kind == Kind::object))
    for (std::size_t i = 0, n = at.size(); i < n; ++i) collect(at.at(i), segment, root, found);
}

bool Path::set(ValueRef root, const Value& value, Value& out, std::string& error) const {
  if (segments_.empty()) {
    error = "cannot set the root of the document";
    return false;
  }
  return set_at(root, 0, value, out, error);
}

bool Path::set_at(ValueRef at, std::size_t segment, const Value& value, Value& out,
                  std::string& error) const {
  if (segment == segments_.size()) {
    out = value;
    return true;
  }
  const PathSegment& here = segments_[segment];
  if (here.descend || here.selectors.size() != 1) {
    error = "cannot set through " + text_;
    return false;
  }
  const PathSelector& selector = here.selectors.front();
  if (selector.type == Type::member) {
    if (at.kind != Kind::object && at.kind != Kind::null) {
      error = "cannot set " + text_ + " below a " + std::string(kind_name(at.kind));
      return false;
    }
    ValueRef below;
    if (!at.find(selector.name, below)) below = {};
    Value inner;
    if (!set_at(below, segment + 1, value, inner, error)) return false;
    out = with_member(at, selector.name, inner);
    return true;
  }
  if (at.kind != Kind::list && !(at.kind == Kind::object && selector.type != Type::index)) {
    error = "cannot set " + text_ + " below a " + std::string(kind_name(at.kind));
    return false;
  }
  std::vector<Value> items;
  std::vector<bool> chosen(at.size(), false);
  for (std::size_t i = 0, n = at.size(); i < n; ++i) items.emplace_back(at.at(i));
  std::size_t only = 0;
  if (selector.type == Type::index && position(selector, at.size(), only)) chosen[only] = true;
  if (selector.type == Type::slice)
    for (const std::size_t i : slice_positions(selector, at.size())) chosen[i] = true;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (selector.type == Type::wildcard) chosen[i] = true;
    if (selector.type == Type::filter) chosen[i] = selector.filter->test(items[i], at);
    Value inner;
    if (!chosen[i]) continue;
    if (!set_at(items[i], segment + 1, value, inner, error)) return false;
    items[i] = inner;
  }
  if (selector.type == Type::index &&
      std::find(chosen.begin(), chosen.end(), true) == chosen.end()) {
    error = "index out of range in " + text_;
    return false;
  }
  out = at.kind == Kind::list ? Value::list(items) : Value::object(at.shape(), items);
  return true;
}

bool PathFilter::test(ValueRef item, ValueRef root) const {
  const auto read = [&](const Operand& operand, Value& out) {
    if (!operand.path) {
      out = operand.literal;
      return true;
    }
    return operand.path->get(operand.from_root ? root : item, out);
  };
  switch (type) {
    case Type::either:
      return std::any_of(parts.begin(), parts.end(),
                         [&](const auto& part) { return part->test(item, root); });
    case Type::both:
      return std::all_of(parts.begin(), parts.end(),
                         [&](const auto& part) { return part->test(item, root); });
    case Type::negation:
      return !parts.front()->test(item, root);
    case Type::exists: {
      Value ignored;
      return read(left, ignored) && !(left.path == nullptr && !ignored->is_true());
    }
    case Type::compare:
      break;
  }
  Value a;
  Value b;
  const bool found_a = read(left, a);
  const bool found_b = read(right, b);
  if (!found_a || !found_b) return order == Order::ne && found_a != found_b;
  if (order == Order::eq) return a == b;
  if (order == Order::ne) return !(a == b);
  const bool comparable =
      (a->is_number() && b->is_number()) || (a.kind() == Kind::string && b.kind() == Kind::string);
  if (!comparable) return false;
  const int result = compare(a, b);
  switch (order) {
    case Order::lt:
      return result < 0;
    case Order::le:
      return result <= 0;
    case Order::gt:
      return result > 0;
    default:
      return result >= 0;
  }
}

}  // namespace dmm::engine
