#include "dmm/identity.h"

#include <fmt/format.h>

#include "dmm/error.h"
#include "dmm/limits.h"

namespace dmm {

namespace {

constexpr bool is_plain(char c) noexcept {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

constexpr int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_escaped(std::string& out, char c) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  out += '=';
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

}  // namespace

void check_name(std::string_view name, std::string_view what) {
  const bool long_enough = !name.empty() && name.size() <= limits::type_bytes_max;
  bool plain = true;
  for (char c : name) plain = plain && is_plain(c);
  if (!long_enough || !plain) {
    throw Error(code::bad_identity,
                fmt::format("{} \"{}\" is not 1 to {} characters of A-Z a-z 0-9 _ -", what,
                            encode_id(name.substr(0, 80)), limits::type_bytes_max));
  }
}

void check(const Identity& identity) {
  check_name(identity.type, "type");
  if (identity.id.size() > limits::id_bytes_max) {
    throw Error(code::bad_identity,
                fmt::format("id of type \"{}\" has {} bytes, more than {}: {}...", identity.type,
                            identity.id.size(), limits::id_bytes_max,
                            encode_id(std::string_view(identity.id).substr(0, 40))));
  }
}

std::string encode_id(std::string_view id) {
  if (id.empty()) return "=";
  std::string out;
  out.reserve(id.size());
  for (char c : id) {
    if (is_plain(c)) {
      out += c;
    } else {
      append_escaped(out, c);
    }
  }
  return out;
}

std::optional<std::string> decode_id(std::string_view token) {
  if (token == "=") return std::string();
  if (token.empty()) return std::nullopt;
  std::string out;
  out.reserve(token.size());
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (is_plain(token[i])) {
      out += token[i];
      continue;
    }
    if (token[i] != '=' || i + 2 >= token.size()) return std::nullopt;
    const int high = hex_value(token[i + 1]);
    const int low = hex_value(token[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const char byte = static_cast<char>(high * 16 + low);
    if (is_plain(byte)) return std::nullopt;  // has a shorter spelling
    out += byte;
    i += 2;
  }
  if (out.size() > limits::id_bytes_max) return std::nullopt;
  return out;
}

std::string suggest_spelling(std::string_view token) {
  // Whoever wrote escapes in lower case, or escaped what needs none, meant the decoded bytes;
  // anything else is taken literally.
  std::string meant;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const auto upper = [](char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 32) : c; };
    if (token[i] == '=' && i + 2 < token.size() && hex_value(upper(token[i + 1])) >= 0 &&
        hex_value(upper(token[i + 2])) >= 0) {
      meant += static_cast<char>(hex_value(upper(token[i + 1])) * 16 +
                                 hex_value(upper(token[i + 2])));
      i += 2;
    } else {
      meant += token[i];
    }
  }
  return encode_id(meant);
}

std::string key_of(const Identity& identity) { return identity.type + '.' + encode_id(identity.id); }

std::optional<Identity> parse_key(std::string_view key) {
  const std::size_t dot = key.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > limits::type_bytes_max) {
    return std::nullopt;
  }
  for (char c : key.substr(0, dot)) {
    if (!is_plain(c)) return std::nullopt;
  }
  std::optional<std::string> id = decode_id(key.substr(dot + 1));
  if (!id) return std::nullopt;
  return Identity{std::string(key.substr(0, dot)), std::move(*id)};
}

std::uint32_t lane_of_key(std::string_view key) noexcept {
  std::uint32_t hash = 2166136261u;
  for (char c : key) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 16777619u;
  }
  return hash % limits::lanes;
}

}  // namespace dmm
