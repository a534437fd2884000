#include "dmm/cli/human.h"

#include <fmt/format.h>

#include <ctime>

namespace dmm::cli {

namespace {

using std::chrono::milliseconds;

milliseconds since_epoch(Time time) {
  return std::chrono::floor<milliseconds>(time.time_since_epoch());
}

std::tm split(Time time, bool local) {
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(since_epoch(time)).count();
  std::tm parts{};
  if (local) {
    ::localtime_r(&seconds, &parts);
  } else {
    ::gmtime_r(&seconds, &parts);
  }
  return parts;
}

long long millis_of(Time time) {
  return ((since_epoch(time).count() % 1000) + 1000) % 1000;
}

}  // namespace

std::string human_duration(milliseconds duration) {
  const long long ms = duration.count() < 0 ? 0 : duration.count();
  if (ms < 1'000) return fmt::format("{} ms", ms);
  if (ms < 10'000) return fmt::format("{}.{} s", ms / 1'000, ms % 1'000 / 100);
  if (ms < 120'000) return fmt::format("{} s", ms / 1'000);
  if (ms < 7'200'000) return fmt::format("{} min", ms / 60'000);
  if (ms < 172'800'000) return fmt::format("{} h", ms / 3'600'000);
  return fmt::format("{} d", ms / 86'400'000);
}

std::string human_age(const std::optional<Time>& time, Time now) {
  if (!time) return {};
  const auto age = std::chrono::duration_cast<milliseconds>(now - *time);
  // Clocks of two machines differ a little: what seems to come from the near future is new.
  if (age < milliseconds(-500)) return fmt::format("in {}", human_duration(-age));
  return fmt::format("{} ago", human_duration(age));
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1'000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  std::string_view unit;
  for (const std::string_view next : {"kB", "MB", "GB", "TB", "PB", "EB"}) {
    value /= 1'000;
    unit = next;
    if (value < 999.95) break;
  }
  return fmt::format("{:.1f} {}", value, unit);
}

std::string human_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string counted(std::uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", human_count(count), count == 1 ? one : many);
}

std::string rfc3339(Time time) {
  const std::tm parts = split(time, false);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     millis_of(time));
}

std::string clock_time(Time time) {
  const std::tm parts = split(time, true);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", parts.tm_hour, parts.tm_min, parts.tm_sec,
                     millis_of(time));
}

}  // namespace dmm::cli
