#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/internal/runtime.h"
#include "dmm/log.h"
#include "dmm/workers.h"

namespace dmm::internal {

/// The text of an order on the wire (docs/reference/wire-format.md, "Log level"), and back; nothing
/// for what is no order.
std::string order_text(const LogLevelOrder& order);
std::optional<LogLevelOrder> parse_order(std::string_view text);

/// How much a process logs, for a while otherwise than configured. Thread-safe.
class LogLevelKeeper final {
 public:
  /// log   whose level, and that of all its copies, is kept.
  explicit LogLevelKeeper(Logger log) : log_(std::move(log)) {}
  LogLevelKeeper(const LogLevelKeeper&) = delete;
  LogLevelKeeper& operator=(const LogLevelKeeper&) = delete;

  /// Does what the order says, whomever it is for.
  void take(const LogLevelOrder& order);
  /// Blocks until `stop`, and sets the level back when the time of an order is over. Whoever set it
  /// otherwise meanwhile has ended the order.
  void keep(const std::stop_token& stop);
  /// Adds the level, and until when it is not the configured one, to what the process says of
  /// itself.
  void describe(nlohmann::json& answer) const;

 private:
  struct Order {
    Level level;
    Level configured;
    SteadyClock::time_point until;
    SystemClock::time_point until_date;  ///< the same, for people
  };
  /// With the lock. False: there is none, or somebody else has set the level.
  bool is_in_force() const { return order_ && log_.level() == order_->level; }
  void end_order();

  mutable std::mutex mutex_;
  StopCondition changed_;
  Logger log_;
  std::optional<Order> order_;
};

}  // namespace dmm::internal
