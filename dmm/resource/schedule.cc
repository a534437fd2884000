#include "dmm/resource/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "dmm/error.h"
#include "dmm/json.h"

namespace dmm::resource {

namespace {

using std::chrono::milliseconds;

struct Field {
  const char* name;
  int least;
  int most;
};

constexpr std::array<Field, 5> kFields{{{"minute", 0, 59},
                                        {"hour", 0, 23},
                                        {"day of month", 1, 31},
                                        {"month", 1, 12},
                                        {"day of week", 0, 7}}};

[[noreturn]] void refuse(std::string_view expression, const std::string& why) {
  throw Error(code::bad_option,
              fmt::format("schedule \"{}\": {}", printable(expression, 100), why));
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  std::string part;
  for (const char c : text) {
    if (c != at) {
      part += c;
    } else {
      parts.push_back(std::exchange(part, {}));
    }
  }
  parts.push_back(part);
  return parts;
}

std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

/// The numbers that one element of a list names: "*", "5", "1-5", "*/15", "8-18/2".
std::uint64_t element(std::string_view expression, const Field& field, const std::string& text) {
  const auto parts = split(text, '/');
  const auto step = parts.size() == 2 ? number_of(parts[1]) : std::optional<int>(1);
  const auto ends = parts[0] == "*" ? std::vector<std::string>{} : split(parts[0], '-');
  std::optional<int> from = field.least;
  std::optional<int> to = field.most;
  if (!ends.empty()) {
    from = number_of(ends[0]);
    to = ends.size() == 2 ? number_of(ends[1]) : parts.size() == 2 ? to : from;
  }
  if (parts.size() > 2 || ends.size() > 2 || !step || *step == 0 || !from || !to ||
      *from < field.least || *to > field.most || *from > *to) {
    refuse(expression, fmt::format("{} \"{}\" is not *, a number from {} to {}, a range, or these "
                                   "with a step",
                                   field.name, printable(text, 50), field.least, field.most));
  }
  std::uint64_t set = 0;
  for (int number = *from; number <= *to; number += *step) set |= std::uint64_t{1} << number;
  return set;
}

}  // namespace

Schedule Schedule::every(milliseconds interval, milliseconds jitter) {
  Schedule schedule;
  if (interval.count() <= 0) return schedule;
  schedule.interval_ = interval;
  schedule.jitter_ = std::max(jitter, milliseconds(0));
  return schedule;
}

Schedule Schedule::cron(std::string_view expression, milliseconds jitter) {
  Schedule schedule;
  std::vector<std::string> fields = split(expression, ' ');
  fields.erase(std::remove(fields.begin(), fields.end(), ""), fields.end());
  if (fields.size() != kFields.size()) {
    refuse(expression, fmt::format("it has {} fields, not five", fields.size()));
  }
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    std::uint64_t set = 0;
    for (const std::string& text : split(fields[i], ',')) {
      set |= element(expression, kFields[i], text);
    }
    schedule.fields_.push_back(set);
  }
  std::uint64_t& days = schedule.fields_[4];
  if ((days >> 7 & 1U) != 0) days |= 1;  // both are Sunday
  schedule.any_day_ = fields[2].starts_with("*") || fields[4].starts_with("*");
  schedule.expression_ = fmt::format("{}", fmt::join(fields, " "));
  schedule.jitter_ = std::max(jitter, milliseconds(0));
  const Time now = std::chrono::system_clock::now();
  if (!schedule.next(now, now, 0)) refuse(expression, "there is no such day");
  return schedule;
}

Schedule Schedule::parse(std::string_view text) {
  if (text == "never") return never();
  milliseconds jitter(0);
  std::string_view rest = text;
  constexpr std::string_view kJitter = " jitter ";
  if (const auto at = rest.find(kJitter); at != std::string_view::npos) {
    const auto number = number_of(rest.substr(at + kJitter.size()));
    if (!number) refuse(text, "the jitter is not a number of milliseconds");
    jitter = milliseconds(*number);
    rest = rest.substr(0, at);
  }
  if (rest.starts_with("cron ")) return cron(rest.substr(5), jitter);
  std::int64_t interval = 0;
  if (rest.starts_with("every ")) {
    const std::string_view number = rest.substr(6);
    std::from_chars(number.data(), number.data() + number.size(), interval);
  }
  if (interval <= 0) refuse(text, "it is not never, every MS or cron FIELDS");
  return every(milliseconds(interval), jitter);
}

std::optional<Time> Schedule::next(std::optional<Time> last, Time now, double share) const {
  using namespace std::chrono;
  if (is_never()) return std::nullopt;
  const auto jitter = duration_cast<milliseconds>(jitter_ * share);
  if (interval_.count() > 0) return (last ? std::max(*last + interval_, now) : now) + jitter;
  // Cron: the next minute that fits; far enough for the 29th of February.
  const auto fits = [this](std::size_t field, unsigned number) {
    return (fields_[field] >> number & 1U) != 0;
  };
  auto day = floor<days>(now);
  auto minute = floor<minutes>(now) + minutes(1);
  for (int count = 0; count <= 366 * 9; ++count, day += days(1)) {
    const year_month_day date{day};
    const bool of_month = fits(2, static_cast<unsigned>(date.day()));
    const bool of_week = fits(4, weekday{day}.c_encoding());
    if (!fits(3, static_cast<unsigned>(date.month())) ||
        !(any_day_ ? of_month && of_week : of_month || of_week)) {
      continue;
    }
    for (auto at = std::max(minute, time_point_cast<minutes>(day)); at < day + days(1);
         at += minutes(1)) {
      const auto of_day = at - day;
      if (fits(1, static_cast<unsigned>(duration_cast<hours>(of_day).count())) &&
          fits(0, static_cast<unsigned>(of_day.count() % 60))) {
        return Time(at) + jitter;
      }
    }
  }
  return std::nullopt;
}

std::string Schedule::text() const {
  if (is_never()) return "never";
  std::string text =
      interval_.count() > 0 ? fmt::format("every {}", interval_.count()) : "cron " + expression_;
  if (jitter_.count() > 0) text += fmt::format(" jitter {}", jitter_.count());
  return text;
}

}  // namespace dmm::resource
