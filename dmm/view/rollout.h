#pragma once

#include <chrono>
#include <string>
#include <unordered_set>

#include "dmm/views.h"

namespace dmm::view {

/// Lets a release out at its rate, and no further when too many of those that it reached fail.
/// One thread.
class RolloutGate {
 public:
  using Clock = std::chrono::steady_clock;

  RolloutGate(const Rollout& rollout, Clock::time_point now);
  /// A gate that an earlier owner found to be stopped, and why.
  void stay_stopped(std::string why) { stopped_ = std::move(why); }

  /// Whether an identity may be told now; told() then takes it from the allowance.
  bool open(Clock::time_point now);
  void told(const std::string& id);
  /// The status of an identity changed: whether it fails now.
  void failing(const std::string& id, bool fails);

  bool limited() const noexcept { return rollout_.per_minute > 0 || rollout_.failures_max > 0; }
  std::size_t told_count() const noexcept { return told_.size(); }
  std::size_t failing_count() const noexcept { return failing_.size(); }
  /// Why it stopped; empty if it did not.
  const std::string& stopped() const noexcept { return stopped_; }

 private:
  Rollout rollout_;
  double allowance_;  ///< notifies that may go now
  Clock::time_point refilled_;
  std::unordered_set<std::string> told_;
  std::unordered_set<std::string> failing_;  ///< of told_
  std::string stopped_;
};

}  // namespace dmm::view
