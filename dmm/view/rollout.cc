#include "dmm/view/rollout.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::view {

RolloutGate::RolloutGate(const Rollout& rollout, Clock::time_point now)
    : rollout_(rollout), allowance_(1), refilled_(now), last_told_(now) {}

bool RolloutGate::open(Clock::time_point now) {
  if (!stopped_.empty()) return false;
  if (rollout_.per_minute == 0) return true;
  const double a_second = static_cast<double>(rollout_.per_minute) / 60;
  allowance_ += a_second * std::chrono::duration<double>(now - refilled_).count();
  allowance_ = std::min(allowance_, std::max(1.0, a_second));
  refilled_ = now;
  return allowance_ >= 1;
}

void RolloutGate::told(const std::string& id, Sequence token, Clock::time_point now) {
  if (!limited()) return;
  told_[id] = token;
  last_told_ = now;
}

void RolloutGate::failed(const std::string& id, Sequence token) {
  const auto told = told_.find(id);
  if (told == told_.end() || token < told->second) return;
  failing_.insert(id);
  if (rollout_.failures_max == 0 || failing_.size() <= rollout_.failures_max) return;
  if (!stopped_.empty()) return;
  stopped_ = fmt::format("{} of the {} identities that were told are failing, for example {}",
                         failing_.size(), told_.size(), printable(id, 100));
}

bool RolloutGate::settled(Clock::time_point now) const {
  return rollout_.failures_max == 0 || now - last_told_ >= limits::rollout_settle;
}

}  // namespace dmm::view
