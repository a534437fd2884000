#pragma once

#include <string>
#include <vector>

#include "engine/expression/expression.h"

/// Coercions of the expression language (docs/reference/pipeline-language.md, "Coercions"). All
/// return false with the scope's failure set when the value cannot be converted.
namespace dmm::engine::internal {

bool to_bool(Scope& scope, ValueRef value, bool& out);
bool to_int(Scope& scope, ValueRef value, std::int64_t& out);
bool to_double(Scope& scope, ValueRef value, double& out);
/// Appends the text of any value: null is nothing, lists and objects are JSON.
void append_string(ValueRef value, std::string& out);
std::string to_string(ValueRef value);
/// A number: numbers as they are, booleans 0 or 1, strings by their text; the rest fails.
bool to_number(Scope& scope, ValueRef value, Value& out);
/// An integer from a double; fails outside of int64.
bool double_to_int(Scope& scope, double value, std::int64_t& out);
/// Refuses what is not finite.
bool finite(Scope& scope, double value, Value& out);

}  // namespace dmm::engine::internal
