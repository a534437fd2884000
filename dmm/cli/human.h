#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dmm::cli {

using Time = std::chrono::system_clock::time_point;

/// "850 ms", "4.2 s", "42 s", "5 min", "3 h", "2 d".
std::string human_duration(std::chrono::milliseconds duration);

/// "42 s ago" or "in 5 min"; empty for nothing.
std::string human_age(const std::optional<Time>& time, Time now);

/// "512 B", "1.5 kB", "3.2 GB".
std::string human_bytes(std::uint64_t bytes);

/// "12,345".
std::string human_count(std::uint64_t count);

/// "1 player", "12,345 players": a count and the thing.
std::string counted(std::uint64_t count, std::string_view one, std::string_view many);

/// RFC 3339 in UTC with milliseconds: "2026-01-31T23:59:59.123Z".
std::string rfc3339(Time time);

/// The time of day where the user is: "23:59:59.123".
std::string clock_time(Time time);

}  // namespace dmm::cli
