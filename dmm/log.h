#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json_fwd.hpp>

namespace dmm {

enum class Level : std::uint8_t { debug, info, warn, error, off };

std::string_view to_string(Level level) noexcept;
/// "debug", "info", "warn", "error" or "off"; nothing for another text.
std::optional<Level> level_of(std::string_view name) noexcept;

/// A logger: a constant message and key/value fields, to a sink that the program chooses. Cheap to
/// copy; a copy made by with() carries more fields. Thread-safe.
class Logger {
 public:
  /// Called for each line at or above the level, from any thread; must not throw.
  /// fields   a JSON object.
  using Sink = std::function<void(Level, std::string_view message, const nlohmann::json& fields)>;
  using Fields = std::initializer_list<std::pair<const char*, nlohmann::json>>;

  /// Logs nothing.
  Logger();
  Logger(Level level, Sink sink);

  /// Lines for people on a terminal, one JSON object a line otherwise; to standard error. Who reads
  /// that and stops reading costs lines, which are counted in the next one that is taken, but holds
  /// nobody up for longer than 50 ms, and that once.
  static Logger standard(Level level = Level::info);
  /// One JSON object a line to standard error, wherever that goes.
  static Logger json(Level level = Level::info);

  void log(Level level, std::string_view message, Fields fields = {}) const noexcept;
  void debug(std::string_view message, Fields fields = {}) const noexcept;
  void info(std::string_view message, Fields fields = {}) const noexcept;
  void warn(std::string_view message, Fields fields = {}) const noexcept;
  void error(std::string_view message, Fields fields = {}) const noexcept;

  /// The same logger with these fields in every line.
  Logger with(Fields fields) const;

  /// Changes the level of this logger and of all its copies.
  void set_level(Level level) noexcept;
  bool enabled(Level level) const noexcept;
  /// The least level of what is logged; off: nothing is.
  Level level() const noexcept;

 private:
  struct Core;
  std::shared_ptr<Core> core_;
  std::shared_ptr<const nlohmann::json> fields_;
};

}  // namespace dmm
