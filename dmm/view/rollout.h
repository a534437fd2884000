#pragma once

#include <chrono>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "dmm/internal/runtime.h"
#include "dmm/types.h"
#include "dmm/views.h"

namespace dmm::view {

/// Lets a release out at its rate, and no further when too many of those that it reached fail.
/// One thread.
class RolloutGate {
 public:
  using Clock = internal::SteadyClock;

  RolloutGate(const Rollout& rollout, Clock::time_point now);
  /// A gate that an earlier owner found to be stopped, and why.
  void stay_stopped(std::string why) { stopped_ = std::move(why); }

  /// Whether an identity may be told now; take() then takes it from the allowance.
  bool open(Clock::time_point now);
  void take() noexcept { allowance_ -= 1; }
  /// The token of an identity was stored.
  void told(const std::string& id, Sequence token, Clock::time_point now);
  /// The run of a token failed; one of an older token than was told says nothing of the release.
  void failed(const std::string& id, Sequence token);
  /// An identity fails no longer.
  void recovered(const std::string& id) { failing_.erase(id); }
  /// True if what was told last had time to fail.
  bool settled(Clock::time_point now) const;

  bool limited() const noexcept { return rollout_.per_minute > 0 || rollout_.failures_max > 0; }
  std::size_t told_count() const noexcept { return told_.size(); }
  std::size_t failing_count() const noexcept { return failing_.size(); }
  /// Why it stopped; empty if it did not.
  const std::string& stopped() const noexcept { return stopped_; }

 private:
  Rollout rollout_;
  double allowance_;  ///< notifies that may go now
  Clock::time_point refilled_;
  Clock::time_point last_told_;
  std::unordered_map<std::string, Sequence> told_;
  std::unordered_set<std::string> failing_;  ///< of told_
  std::string stopped_;
};

}  // namespace dmm::view
