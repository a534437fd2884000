#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace dmm::internal {

/// The time that a text of Unix milliseconds names; nothing for any other text, and for years
/// before 1970 or from 2200 on, which nobody means and the clock's nanoseconds may not reach.
inline std::optional<std::chrono::system_clock::time_point> parse_unix_ms(std::string_view text) {
  constexpr std::int64_t kYear2200 = 7'258'118'400'000;
  std::int64_t unix_ms = 0;
  const char* const end = text.data() + text.size();
  const auto [read_to, error] = std::from_chars(text.data(), end, unix_ms);
  if (error != std::errc() || read_to != end || unix_ms < 0 || unix_ms >= kYear2200) {
    return std::nullopt;
  }
  return std::chrono::system_clock::time_point(std::chrono::milliseconds(unix_ms));
}

}  // namespace dmm::internal
