#include <algorithm>

#include "engine/expression/builtins_internal.h"
#include "engine/expression/coerce_internal.h"
#include "engine/limits.h"

namespace dmm::engine::internal {
namespace {

bool length(Scope& scope, Arguments arguments, Value& out) {
  const ValueRef value = arguments[0];
  switch (value.kind) {
    case Kind::null:
      out = Value::integer(0);
      return true;
    case Kind::string:
      out = Value::integer(static_cast<std::int64_t>(value.as_string().size()));
      return true;
    case Kind::list:
    case Kind::object:
      out = Value::integer(static_cast<std::int64_t>(value.size()));
      return true;
    default:
      return scope.fail("@len of a " + std::string(kind_name(value.kind)));
  }
}

bool in_list(Scope& scope, Arguments arguments, Value& out) {
  out = Value::boolean(false);
  if (arguments[1]->is_null()) return true;
  if (arguments[1].kind() != Kind::list) return scope.fail("the second argument must be a list");
  for (std::size_t i = 0, n = arguments[1]->size(); i < n; ++i)
    if (equal(arguments[0], arguments[1]->at(i))) out = Value::boolean(true);
  return true;
}

bool range(Scope& scope, Arguments arguments, Value& out) {
  std::int64_t n;
  if (!to_int(scope, arguments[0], n)) return false;
  if (n < 0) return scope.fail("@range of a negative number");
  if (n > limits::kListItemsMax)
    return scope.fail("@range: more than the limit of " + std::to_string(limits::kListItemsMax));
  std::vector<Value> items;
  for (std::int64_t i = 1; i <= n; ++i) items.push_back(Value::integer(i));
  out = Value::list(items);
  return true;
}

bool enumerate(Scope& scope, Arguments arguments, Value& out) {
  if (!arguments[0]->is_null() && arguments[0].kind() != Kind::list)
    return scope.fail("@enumerate: the argument must be a list");
  const ShapePtr shape(Shape::make({Value::string("index"), Value::string("value")}));
  std::vector<Value> items;
  for (std::size_t i = 0, n = arguments[0]->size(); i < n; ++i) {
    const Value members[] = {Value::integer(static_cast<std::int64_t>(i)),
                             Value(arguments[0]->at(i))};
    items.push_back(Value::object(*shape, members));
  }
  out = Value::list(items);
  return true;
}

bool is_nil(Scope&, Arguments arguments, Value& out) {
  out = Value::boolean(arguments[0]->is_null());
  return true;
}

// The k first of a list in canonical order, from either end.
bool top(Scope& scope, Arguments arguments, bool descending, Value& out) {
  std::int64_t k;
  if (!to_int(scope, arguments[0], k)) return false;
  if (k < 0) return scope.fail("the number of items must not be negative");
  if (arguments[1].kind() != Kind::list && !arguments[1]->is_null())
    return scope.fail("the second argument must be a list");
  std::vector<Value> items;
  for (std::size_t i = 0, n = arguments[1]->size(); i < n; ++i)
    items.emplace_back(arguments[1]->at(i));
  std::sort(items.begin(), items.end(), [descending](const Value& a, const Value& b) {
    return descending ? compare(b, a) < 0 : compare(a, b) < 0;
  });
  if (items.size() > static_cast<std::size_t>(k)) items.resize(static_cast<std::size_t>(k));
  out = Value::list(items);
  return true;
}
bool topk(Scope& scope, Arguments arguments, Value& out) {
  return top(scope, arguments, true, out);
}
bool bottomk(Scope& scope, Arguments arguments, Value& out) {
  return top(scope, arguments, false, out);
}

constexpr Builtin kBuiltins[] = {
    {"@len", 1, 1, length},          {"@in", 2, 2, in_list},   {"@range", 1, 1, range},
    {"@enumerate", 1, 1, enumerate}, {"@isnil", 1, 1, is_nil}, {"@topk", 2, 2, topk},
    {"@bottomk", 2, 2, bottomk},
};

}  // namespace

std::span<const Builtin> list_builtins() {
  return kBuiltins;
}

}  // namespace dmm::engine::internal
