#pragma once

#include <span>
#include <string_view>

#include "engine/expression/expression.h"

namespace dmm::engine::internal {

using Arguments = std::span<const Value>;
using BuiltinFunction = bool (*)(Scope& scope, Arguments arguments, Value& out);

/// An operator that is a function of its evaluated arguments.
struct Builtin {
  std::string_view name;
  int min;  ///< fewest arguments; max -1 means any number
  int max;
  BuiltinFunction function;
};

std::span<const Builtin> arithmetic_builtins();
std::span<const Builtin> text_builtins();
std::span<const Builtin> list_builtins();

/// `@eq`, `@gt` … on two values; order is -1, 0 or 1.
bool ordered(Scope& scope, ValueRef a, ValueRef b, int& order);

/// The folds that also exist as incremental aggregates; `items` are all values of the list.
bool fold_sum(Scope& scope, Arguments items, Value& out);
bool fold_mean(Scope& scope, Arguments items, Value& out);
bool fold_min(Scope& scope, Arguments items, Value& out);
bool fold_max(Scope& scope, Arguments items, Value& out);
bool fold_lexmin(Scope& scope, Arguments items, Value& out);
bool fold_lexmax(Scope& scope, Arguments items, Value& out);
/// The error of `@min`, `@max` for a value that is no number.
bool not_numeric(Scope& scope, ValueRef value);

}  // namespace dmm::engine::internal
