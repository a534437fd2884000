#include "dmm/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm {

struct Logger::Core {
  Core(Level initial, Sink to) : level(initial), sink(std::move(to)) {}

  std::atomic<Level> level;  // relaxed: a line more or less around a change does not matter
  const Sink sink;
};

namespace {

constexpr std::string_view kReserved[] = {"time", "level", "message", "truncated"};

std::tm utc(std::time_t seconds) noexcept {
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return parts;
}

// RFC 3339 in UTC with milliseconds.
std::string timestamp(std::chrono::system_clock::time_point now, bool date) {
  const auto since = std::chrono::floor<std::chrono::milliseconds>(now).time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  const std::tm t = utc(static_cast<std::time_t>(seconds.count()));
  const auto ms = (since - seconds).count();
  const std::string time =
      fmt::format("{:02}:{:02}:{:02}.{:03}", t.tm_hour, t.tm_min, t.tm_sec, ms);
  if (!date) return time;
  return fmt::format("{:04}-{:02}-{:02}T{}Z", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, time);
}

// The longest part of `text` up to `bytes_max` that does not end inside a UTF-8 character.
std::string_view cut(std::string_view text, std::size_t bytes_max) noexcept {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  const auto inside = [&] { return (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80; };
  while (end > 0 && bytes_max - end < 4 && inside()) --end;
  return text.substr(0, end);
}

// ASCII only: what a log carries from outside must not steer the terminal that shows it.
std::string json_text(const nlohmann::json& value) {
  return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

// A line that stays valid JSON when it is cut: the message and long texts are shortened, fields
// that do not fit are left out, and "truncated" says so.
std::string json_line(Level level, std::string_view message, const nlohmann::json& fields) {
  constexpr std::string_view kTruncated = ",\"truncated\":true";
  constexpr std::size_t kRoom = limits::log_line_bytes_max - kTruncated.size() - 2;  // "}\n"
  constexpr std::size_t kTextMax = limits::log_line_bytes_max / 8;  // a byte becomes at most 6

  const std::string_view shown = cut(message, kTextMax);
  bool truncated = shown.size() < message.size();
  std::string line = fmt::format(R"({{"time":"{}","level":"{}","message":{})",
                                 timestamp(internal::SystemClock::now(), true), to_string(level),
                                 json_text(shown));
  for (const auto& [key, value] : fields.items()) {
    std::string name = key;
    for (std::string_view reserved : kReserved) {
      if (key == reserved) name += '_';  // one key twice would make the line unreadable
    }
    std::string piece = fmt::format(",{}:{}", json_text(name), json_text(value));
    if (line.size() + piece.size() > kRoom && value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      piece = fmt::format(",{}:{}", json_text(name), json_text(cut(text, 200)));
      truncated = true;
    }
    if (line.size() + piece.size() > kRoom) {
      truncated = true;
    } else {
      line += piece;
    }
  }
  if (truncated) line += kTruncated;
  return line += "}\n";
}

bool wants_colour() {
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  return term != nullptr && std::string_view(term) != "dumb" &&
         (no_colour == nullptr || *no_colour == '\0');
}

std::string_view colour_of(Level level) noexcept {
  switch (level) {
    case Level::debug:
      return "\x1b[2m";
    case Level::warn:
      return "\x1b[33m";
    case Level::error:
      return "\x1b[31m";
    case Level::info:
    case Level::off:
      break;
  }
  return {};
}

// "12:30:05.123 warn  message  key=value key="two words""
std::string human_line(Level level, std::string_view message, const nlohmann::json& fields,
                       bool colour) {
  const std::string_view paint = colour ? colour_of(level) : std::string_view();
  std::string line = fmt::format("{} {}{:<5}{} {}", timestamp(internal::SystemClock::now(), false),
                                 paint, to_string(level), paint.empty() ? "" : "\x1b[0m",
                                 printable(message, limits::log_line_bytes_max / 2));
  const char* gap = "  ";
  for (const auto& [key, value] : fields.items()) {
    std::string text;
    if (value.is_string()) {
      text = value.get<std::string>();
      const bool plain = !text.empty() && text.find_first_of(" \"=\n\t") == std::string::npos;
      if (!plain) text = dump_json(value);
    } else {
      text = dump_json(value);
    }
    line += fmt::format("{}{}={}", gap, printable(key, 100), printable(text));
    gap = " ";
    if (line.size() > limits::log_line_bytes_max) break;
  }
  // Cut before the line feed, and never inside an escape or a character.
  if (line.size() >= limits::log_line_bytes_max) {
    line = std::string(cut(line, limits::log_line_bytes_max - 4)) + "...";
  }
  return line += '\n';
}

// Standard error, which others read: where they stop, the work must go on, least of all may it wait
// where a worker has just lost its lanes. One put for a line, so that lines of threads do not mix.
class StandardError final {
 public:
  void write(std::string_view line) {
    const std::lock_guard lock(mutex_);
    if (lost_ > 0 && !tell_lost()) return void(++lost_);
    if (!put(line, kPatience)) lost_ = 1;
  }

 private:
  static constexpr int kPatience = 50;  // milliseconds
  static constexpr int kNoPatience = 0;

  bool tell_lost() {
    const std::string note =
        (torn_ ? "\n" : "") + json_line(Level::warn, "log lines were lost", {{"lines", lost_}});
    if (!put(note, kNoPatience)) return false;
    lost_ = 0;
    torn_ = false;
    return true;
  }

  // In pieces that a pipe which can be written to takes whole, so that no write waits.
  bool put(std::string_view text, int patience) noexcept {
    const std::size_t whole = text.size();
    while (!text.empty()) {
      pollfd out{STDERR_FILENO, POLLOUT, 0};
      const int ready = ::poll(&out, 1, patience);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) {
        torn_ = torn_ || text.size() < whole;
        return false;
      }
      const ssize_t written =
          ::write(STDERR_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
      if (written > 0) {
        text.remove_prefix(static_cast<std::size_t>(written));
      } else if (written < 0 && errno != EINTR) {
        return true;  // it is closed, or its disk is full: there is nowhere to say so
      }
    }
    return true;
  }

  std::mutex mutex_;
  std::uint64_t lost_ = 0;  ///< lines, since the last that was taken
  bool torn_ = false;       ///< the last that was begun was not ended
};

void write_line(std::string_view line) {
  static StandardError standard_error;
  standard_error.write(line);
}

}  // namespace

std::string_view to_string(Level level) noexcept {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warn:
      return "warn";
    case Level::error:
      return "error";
    case Level::off:
      return "off";
  }
  return "off";
}

std::optional<Level> level_of(std::string_view name) noexcept {
  for (const Level level : {Level::debug, Level::info, Level::warn, Level::error, Level::off}) {
    if (to_string(level) == name) return level;
  }
  return std::nullopt;
}

Logger::Logger() : Logger(Level::off, Sink()) {}

Logger::Logger(Level level, Sink sink) : core_(std::make_shared<Core>(level, std::move(sink))) {}

Logger Logger::standard(Level level) {
  if (::isatty(STDERR_FILENO) != 1) return json(level);
  return Logger(level, [colour = wants_colour()](Level at, std::string_view message,
                                                 const nlohmann::json& fields) {
    write_line(human_line(at, message, fields, colour));
  });
}

Logger Logger::json(Level level) {
  return Logger(level, [](Level at, std::string_view message, const nlohmann::json& fields) {
    write_line(json_line(at, message, fields));
  });
}

void Logger::log(Level level, std::string_view message, Fields fields) const noexcept {
  if (!enabled(level)) return;
  try {
    nlohmann::json all = fields_ ? *fields_ : nlohmann::json::object();
    for (const auto& [key, value] : fields) all[key] = value;
    core_->sink(level, message, all);
  } catch (...) {
    constexpr std::string_view kLost = "dmm: a log line was lost: it could not be formatted\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kLost.data(), kLost.size());
  }
}

void Logger::debug(std::string_view message, Fields fields) const noexcept {
  log(Level::debug, message, fields);
}
void Logger::info(std::string_view message, Fields fields) const noexcept {
  log(Level::info, message, fields);
}
void Logger::warn(std::string_view message, Fields fields) const noexcept {
  log(Level::warn, message, fields);
}
void Logger::error(std::string_view message, Fields fields) const noexcept {
  log(Level::error, message, fields);
}

Logger Logger::with(Fields fields) const {
  Logger copy = *this;
  nlohmann::json all = fields_ ? *fields_ : nlohmann::json::object();
  for (const auto& [key, value] : fields) all[key] = value;
  copy.fields_ = std::make_shared<const nlohmann::json>(std::move(all));
  return copy;
}

void Logger::set_level(Level level) noexcept {
  if (core_) core_->level.store(level, std::memory_order_relaxed);
}

Level Logger::level() const noexcept {
  return core_ && core_->sink ? core_->level.load(std::memory_order_relaxed) : Level::off;
}

bool Logger::enabled(Level level) const noexcept {
  // A logger that was moved from has no core.
  return core_ && core_->sink && level != Level::off &&
         level >= core_->level.load(std::memory_order_relaxed);
}

}  // namespace dmm
