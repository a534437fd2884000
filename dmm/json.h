#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/limits.h"
#include "dmm/result.h"

namespace dmm {

/// What a JSON text from outside may be.
struct JsonLimits {
  std::size_t bytes_max = limits::payload_bytes_max;
  std::size_t depth_max = limits::json_depth_max;
};

/// Parses a text that nobody has checked. Never throws, never recurses.
/// errors   DMM-0202 too large, 0203 not JSON (with the byte), 0204 too deep, 0205 invalid UTF-8 or
///          U+0000, 0206 number out of range, 0213 key named twice.
Result<nlohmann::json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// Where the first byte is that is not UTF-8 (shortest form, no surrogates), or that is NUL.
std::optional<std::size_t> find_bad_byte(std::string_view text) noexcept;

/// Throws Error{invalid} DMM-0204 if `value` is nested deeper than `depth_max`: what could not be read
/// back must not be written.
void check_depth(const nlohmann::json& value, std::size_t depth_max = limits::json_depth_max);

/// The text of a value as it is stored: no white space, keys in order, invalid UTF-8 replaced.
std::string dump_json(const nlohmann::json& value);

/// Text for a terminal or a log: control characters and invalid UTF-8 escaped, cut at `bytes_max`.
std::string printable(std::string_view text, std::size_t bytes_max = 2'000);

}  // namespace dmm
