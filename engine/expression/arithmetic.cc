#include <cmath>

#include "engine/exact_sum.h"
#include "engine/expression/builtins_internal.h"
#include "engine/expression/coerce_internal.h"
#include "engine/hash.h"

namespace dmm::engine::internal {
namespace {

bool overflow(Scope& scope) {
  return scope.fail("integer overflow");
}

// One argument that is a list stands for its elements.
template <class Function>
bool spread(Arguments arguments, const Function& function) {
  if (arguments.size() != 1 || arguments[0].kind() != Kind::list) return function(arguments);
  std::vector<Value> items;
  for (std::size_t i = 0, n = arguments[0]->size(); i < n; ++i)
    items.emplace_back(arguments[0]->at(i));
  return function(Arguments(items));
}

bool sum(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_sum(scope, items, out); });
}
bool mean(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_mean(scope, items, out); });
}
bool minimum(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_min(scope, items, out); });
}
bool maximum(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_max(scope, items, out); });
}
bool lexmin(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_lexmin(scope, items, out); });
}
bool lexmax(Scope& scope, Arguments arguments, Value& out) {
  return spread(arguments, [&](Arguments items) { return fold_lexmax(scope, items, out); });
}

bool add(Scope& scope, Arguments arguments, Value& out) {
  if (arguments.size() == 1 && arguments[0].kind() != Kind::list) {
    out = arguments[0];
    return true;
  }
  return sum(scope, arguments, out);
}

bool product(Scope& scope, Arguments items, Value& out) {
  if (items.empty()) {
    out = Value::integer(0);
    return true;
  }
  Value total;
  if (!to_number(scope, items[0], total)) return false;
  for (const Value& item : items.subspan(1)) {
    Value factor;
    if (!to_number(scope, item, factor)) return false;
    if (total.kind() == Kind::integer && factor.kind() == Kind::integer) {
      std::int64_t result;
      if (__builtin_mul_overflow(total->as_integer(), factor->as_integer(), &result))
        return overflow(scope);
      total = Value::integer(result);
    } else if (!finite(scope, total->as_double() * factor->as_double(), total)) {
      return false;
    }
  }
  out = total;
  return true;
}

bool multiply(Scope& scope, Arguments arguments, Value& out) {
  if (arguments.size() == 1 && arguments[0].kind() != Kind::list) {
    out = arguments[0];
    return true;
  }
  return spread(arguments, [&](Arguments items) { return product(scope, items, out); });
}

bool both_numeric(Scope& scope, Arguments arguments) {
  for (const Value& argument : arguments)
    if (!argument->is_number()) return not_numeric(scope, argument);
  return true;
}
bool both_integers(Arguments arguments) {
  return arguments[0].kind() == Kind::integer && arguments[1].kind() == Kind::integer;
}

bool subtract(Scope& scope, Arguments arguments, Value& out) {
  if (!both_numeric(scope, arguments)) return false;
  if (!both_integers(arguments))
    return finite(scope, arguments[0]->as_double() - arguments[1]->as_double(), out);
  std::int64_t result;
  if (__builtin_sub_overflow(arguments[0]->as_integer(), arguments[1]->as_integer(), &result))
    return overflow(scope);
  out = Value::integer(result);
  return true;
}

bool divide(Scope& scope, Arguments arguments, Value& out) {
  if (!both_numeric(scope, arguments)) return false;
  if (arguments[1]->as_double() == 0) return scope.fail("division by zero");
  if (!both_integers(arguments))
    return finite(scope, arguments[0]->as_double() / arguments[1]->as_double(), out);
  const std::int64_t a = arguments[0]->as_integer();
  const std::int64_t b = arguments[1]->as_integer();
  if (a == INT64_MIN && b == -1) return overflow(scope);
  out = Value::integer(a / b);
  return true;
}

bool modulo(Scope& scope, Arguments arguments, Value& out) {
  std::int64_t a;
  std::int64_t b;
  if (!to_int(scope, arguments[0], a) || !to_int(scope, arguments[1], b)) return false;
  if (b == 0) return scope.fail("division by zero");
  out = Value::integer(b == -1 ? 0 : a % b);
  return true;
}

bool negate(Scope& scope, Arguments arguments, Value& out) {
  if (arguments[0].kind() == Kind::integer) {
    if (arguments[0]->as_integer() == INT64_MIN) return overflow(scope);
    out = Value::integer(-arguments[0]->as_integer());
    return true;
  }
  double value;
  if (!to_double(scope, arguments[0], value)) return false;
  out = Value::real(-value);
  return true;
}

bool absolute(Scope& scope, Arguments arguments, Value& out) {
  if (arguments[0].kind() == Kind::integer && arguments[0]->as_integer() >= 0) {
    out = arguments[0];
    return true;
  }
  if (arguments[0].kind() == Kind::integer) return negate(scope, arguments, out);
  double value;
  if (!to_double(scope, arguments[0], value)) return false;
  out = Value::real(std::fabs(value));
  return true;
}

bool rounded(Scope& scope, Arguments arguments, double (*round)(double), Value& out) {
  if (arguments[0].kind() == Kind::integer) {
    out = arguments[0];
    return true;
  }
  double value;
  std::int64_t result;
  if (!to_double(scope, arguments[0], value) || !double_to_int(scope, round(value), result))
    return false;
  out = Value::integer(result);
  return true;
}
bool floor_of(Scope& scope, Arguments arguments, Value& out) {
  return rounded(
      scope, arguments, [](double x) { return std::floor(x); }, out);
}
bool ceil_of(Scope& scope, Arguments arguments, Value& out) {
  return rounded(
      scope, arguments, [](double x) { return std::ceil(x); }, out);
}

bool as_int(Scope& scope, Arguments arguments, Value& out) {
  std::int64_t value;
  if (!to_int(scope, arguments[0], value)) return false;
  out = Value::integer(value);
  return true;
}
bool as_float(Scope& scope, Arguments arguments, Value& out) {
  double value;
  if (!to_double(scope, arguments[0], value)) return false;
  out = Value::real(value);
  return true;
}
bool as_bool(Scope& scope, Arguments arguments, Value& out) {
  bool value;
  if (!to_bool(scope, arguments[0], value)) return false;
  out = Value::boolean(value);
  return true;
}

bool random(Scope& scope, Arguments arguments, Value& out) {
  if (!both_numeric(scope, arguments)) return false;
  std::uint64_t draw = mix(scope.time().seed, hash(scope.document()));
  draw = mix(draw, scope.next_draw());
  draw = mix(draw, 0x2545F4914F6CDD1DULL);
  if (both_integers(arguments)) {
    const auto low = static_cast<std::uint64_t>(arguments[0]->as_integer());
    const auto high = static_cast<std::uint64_t>(arguments[1]->as_integer());
    if (arguments[1]->as_integer() < arguments[0]->as_integer())
      return scope.fail("@rnd: max is below min");
    const std::uint64_t span = high - low;
    out = Value::integer(
        static_cast<std::int64_t>(span == UINT64_MAX ? draw : low + draw % (span + 1)));
    return true;
  }
  const double low = arguments[0]->as_double();
  const double unit = static_cast<double>(draw >> 11) * 0x1p-53;
  return finite(scope, low + (arguments[1]->as_double() - low) * unit, out);
}

constexpr Builtin kBuiltins[] = {
    {"@add", 0, -1, add},     {"@sum", 0, -1, sum},       {"@mul", 0, -1, multiply},
    {"@sub", 2, 2, subtract}, {"@div", 2, 2, divide},     {"@mod", 2, 2, modulo},
    {"@neg", 1, 1, negate},   {"@abs", 1, 1, absolute},   {"@floor", 1, 1, floor_of},
    {"@ceil", 1, 1, ceil_of}, {"@min", 0, -1, minimum},   {"@max", 0, -1, maximum},
    {"@avg", 0, -1, mean},    {"@lexmin", 0, -1, lexmin}, {"@lexmax", 0, -1, lexmax},
    {"@int", 1, 1, as_int},   {"@float", 1, 1, as_float}, {"@sqlbool", 1, 1, as_bool},
    {"@rnd", 2, 2, random},
};

}  // namespace

std::span<const Builtin> arithmetic_builtins() {
  return kBuiltins;
}

bool not_numeric(Scope& scope, ValueRef value) {
  std::string text = to_text(value);
  if (text.size() > 60) text = text.substr(0, 60) + "…";
  return scope.fail(std::string(kind_name(value.kind)) + " " + text + " is not numeric");
}

bool ordered(Scope& scope, ValueRef a, ValueRef b, int& order) {
  const bool numbers = a.is_number() && b.is_number();
  if (!numbers && !(a.kind == Kind::string && b.kind == Kind::string)) {
    if (a.kind == Kind::string || b.kind == Kind::string || a.is_number() || b.is_number())
      return not_numeric(scope, a.is_number() || a.kind == Kind::string ? b : a);
    return not_numeric(scope, a);
  }
  order = compare(a, b);
  return true;
}

bool fold_sum(Scope& scope, Arguments items, Value& out) {
  ExactSum total;
  for (const Value& item : items) {
    Value number;
    if (!to_number(scope, item, number)) return false;
    if (!total.add(number, 1)) return overflow(scope);
  }
  return total.sum(out) || scope.fail("sum out of range");
}

bool fold_mean(Scope& scope, Arguments items, Value& out) {
  if (items.empty()) return scope.fail("@avg of nothing");
  ExactSum total;
  for (const Value& item : items) {
    Value number;
    if (!to_number(scope, item, number)) return false;
    if (!total.add(number, 1)) return overflow(scope);
  }
  return total.mean(static_cast<std::int64_t>(items.size()), out) ||
         scope.fail("mean out of range");
}

namespace {

bool extreme(Scope& scope, Arguments items, int sign, Value& out) {
  if (items.empty()) return scope.fail("minimum or maximum of nothing");
  const Value* best = &items[0];
  for (const Value& item : items) {
    if (!item->is_number()) return not_numeric(scope, item);
    if (compare(item, *best) * sign > 0) best = &item;
  }
  out = *best;
  return true;
}

bool text_extreme(Arguments items, int sign, Value& out) {
  out = Value();
  for (std::size_t i = 0; i < items.size(); ++i)
    if (i == 0 || compare_text(items[i], out) * sign > 0) out = items[i];
  return true;
}

}  // namespace

bool fold_min(Scope& scope, Arguments items, Value& out) {
  return extreme(scope, items, -1, out);
}
bool fold_max(Scope& scope, Arguments items, Value& out) {
  return extreme(scope, items, 1, out);
}
bool fold_lexmin(Scope&, Arguments items, Value& out) {
  return text_extreme(items, -1, out);
}
bool fold_lexmax(Scope&, Arguments items, Value& out) {
  return text_extreme(items, 1, out);
}

}  // namespace dmm::engine::internal
