#include "dmm/internal/log_level.h"

#include <algorithm>

#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

using std::chrono::milliseconds;

std::string order_text(const LogLevelOrder& order) {
  return dump_json({{"log_level", std::string(to_string(order.level))},
                    {"for_ms", order.duration.count()},
                    {"worker", order.worker}});
}

std::optional<LogLevelOrder> parse_order(std::string_view text) {
  Result<nlohmann::json> read = parse_json(text);
  if (!read.ok() || !read.value().is_object()) return std::nullopt;
  const nlohmann::json& object = read.value();
  LogLevelOrder order;
  const auto level = object.find("log_level");
  if (level == object.end() || !level->is_string()) return std::nullopt;
  const std::optional<Level> known = level_of(level->get<std::string>());
  if (!known || known == Level::off) return std::nullopt;
  order.level = *known;
  if (const auto time = object.find("for_ms"); time != object.end()) {
    if (!time->is_number_unsigned()) return std::nullopt;
    constexpr std::uint64_t kMost = milliseconds(limits::log_level_for_max).count();
    order.duration = milliseconds(std::min(time->get<std::uint64_t>(), kMost));
  }
  if (const auto worker = object.find("worker"); worker != object.end()) {
    if (!worker->is_string()) return std::nullopt;
    order.worker = *worker;
  }
  return order;
}

void LogLevelKeeper::take(const LogLevelOrder& order) {
  const std::lock_guard lock(mutex_);
  const Level configured = is_in_force() ? order_->configured : log_.level();
  if (order.duration.count() == 0) {
    end_order();
  } else {
    // Said while whichever of both levels shows more is in force.
    const auto say = [&] {
      log_.info(
          "the log level was set for a while",
          {{"log_level", std::string(to_string(order.level))}, {"for_ms", order.duration.count()}});
    };
    if (order.level > configured) say();
    log_.set_level(order.level);
    if (order.level <= configured) say();
    order_ = {order.level, configured, SteadyClock::now() + order.duration,
              SystemClock::now() + order.duration};
  }
  changed_.notify_all();
}

void LogLevelKeeper::keep(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!order_) {
      changed_.wait(lock, stop, [this] { return order_.has_value(); });
      continue;
    }
    const auto until = order_->until;
    if (SteadyClock::now() >= until) {
      end_order();
      continue;
    }
    changed_.wait_until(lock, stop, until, [&] { return !order_ || order_->until != until; });
  }
}

void LogLevelKeeper::end_order() {
  if (is_in_force()) {
    const auto say = [this] { log_.info("the log level is as configured again"); };
    if (order_->configured >= order_->level) say();
    log_.set_level(order_->configured);
    if (order_->configured < order_->level) say();
  }
  order_.reset();
}

void LogLevelKeeper::describe(nlohmann::json& answer) const {
  const std::lock_guard lock(mutex_);
  answer["log_level"] = std::string(to_string(log_.level()));
  if (!is_in_force()) return;
  const auto date = std::chrono::floor<milliseconds>(order_->until_date);
  answer["log_level_until"] = date.time_since_epoch().count();
}

}  // namespace dmm::internal
