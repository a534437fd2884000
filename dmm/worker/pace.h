#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::worker {

/// How fast runs may begin: so many a second together (a token bucket that holds a second's worth,
/// at least one), and so long after each other for one identity. One thread.
class Pace final {
 public:
  using Clock = internal::SteadyClock;

  /// rate       runs a second, 0: no limit.
  /// interval   between the beginnings of two runs of one identity, 0: none.
  void set(double rate, Clock::duration interval) {
    // A share that changes, as lanes come and go, gives nothing away.
    if (rate_ <= 0) tokens_ = depth(rate);
    rate_ = rate;
    interval_ = interval;
    if (interval_.count() > 0) return;
    begun_.clear();
    order_.clear();
  }

  /// How long no run at all may begin; zero: one may.
  Clock::duration wait(Clock::time_point now) {
    if (rate_ <= 0) return {};
    tokens_ = std::min(depth(rate_), tokens_ + seconds(now - filled_at_) * rate_);
    filled_at_ = now;
    if (tokens_ >= 1) return {};
    const std::chrono::duration<double> left((1 - tokens_) / rate_);
    // Of a tiny rate it is more than a clock can count.
    if (!(left < limits::pace_wait_max)) return limits::pace_wait_max;
    return std::chrono::ceil<Clock::duration>(left);
  }

  /// How long this identity may not begin; zero: it may.
  Clock::duration wait(const std::string& key, Clock::time_point now) const {
    if (begun_.empty()) return {};
    const auto found = begun_.find(key);
    if (found == begun_.end()) return {};
    return std::max(found->second + interval_ - now, Clock::duration(0));
  }

  /// A run begins.
  void begin(const std::string& key, Clock::time_point now) {
    if (rate_ > 0) tokens_ -= 1;
    if (interval_.count() == 0) return;
    for (; !order_.empty() && order_.front().first + interval_ <= now; order_.pop_front()) {
      const auto found = begun_.find(order_.front().second);
      if (found != begun_.end() && found->second == order_.front().first) begun_.erase(found);
    }
    begun_[key] = now;
    order_.emplace_back(now, key);
  }

 private:
  static double depth(double rate) { return std::max(1.0, rate); }
  static double seconds(Clock::duration time) {
    return std::chrono::duration<double>(time).count();
  }

  double rate_ = 0;
  double tokens_ = 0;
  Clock::time_point filled_at_ = Clock::now();
  Clock::duration interval_{};
  std::unordered_map<std::string, Clock::time_point> begun_;  ///< within the interval
  std::deque<std::pair<Clock::time_point, std::string>> order_;
};

}  // namespace dmm::worker
