#include <charconv>
#include <cmath>

#include "engine/expression/coerce_internal.h"

namespace dmm::engine::internal {
namespace {

bool cannot(Scope& scope, ValueRef value, std::string_view what) {
  std::string text = to_text(value);
  if (text.size() > 60) text = text.substr(0, 60) + "…";
  return scope.fail("cannot convert " + std::string(kind_name(value.kind)) + " " + text + " to " +
                    std::string(what));
}

bool parse_int(std::string_view text, std::int64_t& out) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && !text.empty();
}

bool parse_double(std::string_view text, double& out) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && std::isfinite(out);
}

}  // namespace

bool to_bool(Scope& scope, ValueRef value, bool& out) {
  switch (value.kind) {
    case Kind::null:
      out = false;
      return true;
    case Kind::boolean:
      out = value.as_bool();
      return true;
    case Kind::integer:
      out = value.as_integer() != 0;
      return true;
    case Kind::real:
      out = value.as_double() != 0;
      return true;
    case Kind::string:
      break;
    default:
      return cannot(scope, value, "bool");
  }
  const std::string_view text = value.as_string();
  static constexpr std::string_view kTrue[] = {"1", "t", "T", "TRUE", "true", "True"};
  static constexpr std::string_view kFalse[] = {"", "0", "f", "F", "FALSE", "false", "False"};
  for (const std::string_view word : kTrue)
    if (text == word) return out = true;
  out = false;
  for (const std::string_view word : kFalse)
    if (text == word) return true;
  return cannot(scope, value, "bool");
}

bool double_to_int(Scope& scope, double value, std::int64_t& out) {
  if (!(value >= -0x1p63 && value < 0x1p63))
    return scope.fail("integer out of range: " + number_text(value));
  out = static_cast<std::int64_t>(value);
  return true;
}

bool finite(Scope& scope, double value, Value& out) {
  if (!std::isfinite(value)) return scope.fail("number out of range");
  out = Value::real(value);
  return true;
}

bool to_int(Scope& scope, ValueRef value, std::int64_t& out) {
  switch (value.kind) {
    case Kind::integer:
      out = value.as_integer();
      return true;
    case Kind::real:
      return double_to_int(scope, value.as_double(), out);
    case Kind::boolean:
      out = value.as_bool() ? 1 : 0;
      return true;
    case Kind::string:
      return parse_int(value.as_string(), out) || cannot(scope, value, "int");
    default:
      return cannot(scope, value, "int");
  }
}

bool to_double(Scope& scope, ValueRef value, double& out) {
  switch (value.kind) {
    case Kind::integer:
    case Kind::real:
      out = value.as_double();
      return true;
    case Kind::boolean:
      out = value.as_bool() ? 1 : 0;
      return true;
    case Kind::string:
      return parse_double(value.as_string(), out) || cannot(scope, value, "float");
    default:
      return cannot(scope, value, "float");
  }
}

bool to_number(Scope& scope, ValueRef value, Value& out) {
  switch (value.kind) {
    case Kind::integer:
    case Kind::real:
      out = Value(value);
      return true;
    case Kind::boolean:
      out = Value::integer(value.as_bool() ? 1 : 0);
      return true;
    case Kind::string: {
      std::int64_t whole;
      double number;
      if (parse_int(value.as_string(), whole))
        out = Value::integer(whole);
      else if (parse_double(value.as_string(), number))
        out = Value::real(number);
      else
        return cannot(scope, value, "a number");
      return true;
    }
    default:
      return cannot(scope, value, "a number");
  }
}

void append_string(ValueRef value, std::string& out) {
  switch (value.kind) {
    case Kind::null:
      return;
    case Kind::string:
      out += value.as_string();
      return;
    case Kind::real: {
      char buffer[400];
      const auto end = std::to_chars(buffer, buffer + sizeof buffer, value.as_double(),
                                     std::chars_format::fixed);
      out.append(buffer, end.ptr);
      return;
    }
    default:
      append_text(value, out);
  }
}

std::string to_string(ValueRef value) {
  std::string out;
  append_string(value, out);
  return out;
}

}  // namespace dmm::engine::internal
