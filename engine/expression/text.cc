#include <algorithm>

#include "engine/error.h"
#include "engine/expression/builtins_internal.h"
#include "engine/expression/coerce_internal.h"
#include "engine/expression/regex_internal.h"
#include "engine/expression/sha256_internal.h"
#include "engine/limits.h"

namespace dmm::engine::internal {
namespace {

bool continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

bool as_string(Scope&, Arguments arguments, Value& out) {
  out = Value::string(to_string(arguments[0]));
  return true;
}

bool concat(Scope& scope, Arguments arguments, Value& out) {
  std::string text;
  for (const Value& argument : arguments) append_string(argument, text);
  if (text.size() > limits::kStringBytesMax) return scope.fail("string longer than the limit");
  out = Value::string(text);
  return true;
}

template <class Function>
bool mapped(Arguments arguments, Value& out, const Function& function) {
  std::string text = to_string(arguments[0]);
  std::transform(text.begin(), text.end(), text.begin(), function);
  out = Value::string(text);
  return true;
}
bool upper(Scope&, Arguments arguments, Value& out) {
  return mapped(arguments, out,
                [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
}
bool lower(Scope&, Arguments arguments, Value& out) {
  return mapped(arguments, out,
                [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
}

bool trim(Scope&, Arguments arguments, Value& out) {
  const std::string text = to_string(arguments[0]);
  static constexpr char kSpace[] = " \t\n\v\f\r";
  const std::size_t from = text.find_first_not_of(kSpace);
  if (from == std::string::npos)
    out = Value::string("");
  else
    out = Value::string(
        std::string_view(text).substr(from, text.find_last_not_of(kSpace) - from + 1));
  return true;
}

// Bytes from a start that counts from 1, or from the end; partial code points at the cuts are left
// out.
bool substring(Scope& scope, Arguments arguments, Value& out) {
  const std::string text = to_string(arguments[0]);
  const auto size = static_cast<std::int64_t>(text.size());
  std::int64_t start;
  std::int64_t length = size;
  if (!to_int(scope, arguments[1], start)) return false;
  if (arguments.size() == 3 && !to_int(scope, arguments[2], length)) return false;
  std::int64_t from = start > 0 ? start - 1 : (start < 0 ? (start < -size ? 0 : size + start) : 0);
  from = std::min(from, size);
  length = std::min(std::max<std::int64_t>(length, 0), size - from);
  std::int64_t to = from + length;
  while (from < to && continuation(text[static_cast<std::size_t>(from)])) ++from;
  while (to > from && to < size && continuation(text[static_cast<std::size_t>(to)])) --to;
  out = Value::string(std::string_view(text).substr(static_cast<std::size_t>(from),
                                                    static_cast<std::size_t>(to - from)));
  return true;
}

bool replace(Scope& scope, Arguments arguments, Value& out) {
  const std::string text = to_string(arguments[0]);
  const std::string old = to_string(arguments[1]);
  const std::string with = to_string(arguments[2]);
  std::int64_t left = -1;
  if (arguments.size() == 4 && !to_int(scope, arguments[3], left)) return false;
  std::string result;
  for (std::size_t at = 0; at <= text.size();) {
    const bool boundary = !old.empty() || at == text.size() || !continuation(text[at]);
    if (left != 0 && boundary && text.compare(at, old.size(), old) == 0) {
      result += with;
      at += old.size();
      if (left > 0) --left;
      if (!old.empty()) continue;
    }
    if (at < text.size()) result += text[at];
    ++at;
    if (result.size() > limits::kStringBytesMax) return scope.fail("string longer than the limit");
  }
  out = Value::string(result);
  return true;
}

bool split(Scope&, Arguments arguments, Value& out) {
  const std::string text = to_string(arguments[0]);
  const std::string separator = to_string(arguments[1]);
  std::vector<Value> parts;
  if (separator.empty()) {
    for (std::size_t at = 0; at < text.size();) {
      std::size_t end = at + 1;
      while (end < text.size() && continuation(text[end])) ++end;
      parts.push_back(Value::string(std::string_view(text).substr(at, end - at)));
      at = end;
    }
  } else {
    std::size_t at = 0;
    for (std::size_t end; (end = text.find(separator, at)) != std::string::npos;
         at = end + separator.size())
      parts.push_back(Value::string(std::string_view(text).substr(at, end - at)));
    parts.push_back(Value::string(std::string_view(text).substr(at)));
  }
  out = Value::list(parts);
  return true;
}

bool join(Scope& scope, Arguments arguments, Value& out) {
  if (arguments[0]->is_null()) {
    out = Value::string("");
    return true;
  }
  if (arguments[0].kind() != Kind::list) return scope.fail("the first argument must be a list");
  const std::string separator = to_string(arguments[1]);
  std::string text;
  for (std::size_t i = 0, n = arguments[0]->size(); i < n; ++i) {
    if (i != 0) text += separator;
    append_string(arguments[0]->at(i), text);
    if (text.size() > limits::kStringBytesMax) return scope.fail("string longer than the limit");
  }
  out = Value::string(text);
  return true;
}

bool starts_with(Scope&, Arguments arguments, Value& out) {
  out = Value::boolean(to_string(arguments[0]).starts_with(to_string(arguments[1])));
  return true;
}
bool ends_with(Scope&, Arguments arguments, Value& out) {
  out = Value::boolean(to_string(arguments[0]).ends_with(to_string(arguments[1])));
  return true;
}
bool contains(Scope&, Arguments arguments, Value& out) {
  out = Value::boolean(to_string(arguments[0]).find(to_string(arguments[1])) != std::string::npos);
  return true;
}

// A pattern that is not constant is compiled for each document; constant ones once (compile.cc).
bool regexp(Scope& scope, Arguments arguments, Value& out) {
  try {
    out = Value::boolean(Regex(to_string(arguments[0])).search(to_string(arguments[1])));
    return true;
  } catch (const Error& error) {
    return scope.fail(error.what());
  }
}

bool digest(Scope&, Arguments arguments, Value& out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto bytes = sha256(to_text(arguments[0]));
  std::string text;
  for (std::size_t i = 0; i < 8; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  out = Value::string(text);
  return true;
}

constexpr Builtin kBuiltins[] = {
    {"@string", 1, 1, as_string},   {"@concat", 0, -1, concat},
    {"@upper", 1, 1, upper},        {"@lower", 1, 1, lower},
    {"@trim", 1, 1, trim},          {"@substring", 2, 3, substring},
    {"@replace", 3, 4, replace},    {"@split", 2, 2, split},
    {"@join", 2, 2, join},          {"@startswith", 2, 2, starts_with},
    {"@endswith", 2, 2, ends_with}, {"@contains", 2, 2, contains},
    {"@regexp", 2, 2, regexp},      {"@hash", 1, 1, digest},
};

}  // namespace

std::span<const Builtin> text_builtins() {
  return kBuiltins;
}

}  // namespace dmm::engine::internal
