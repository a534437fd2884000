#include "dmm/view/rollout.h"

#include <fmt/format.h>

#include <algorithm>

namespace dmm::view {

RolloutGate::RolloutGate(const Rollout& rollout, Clock::time_point now)
    : rollout_(rollout), allowance_(1), refilled_(now) {}

bool RolloutGate::open(Clock::time_point now) {
  if (!stopped_.empty()) return false;
  if (rollout_.per_minute == 0) return true;
  const double a_second = static_cast<double>(rollout_.per_minute) / 60;
  allowance_ += a_second * std::chrono::duration<double>(now - refilled_).count();
  allowance_ = std::min(allowance_, std::max(1.0, a_second));
  refilled_ = now;
  return allowance_ >= 1;
}

void RolloutGate::told(const std::string& id) {
  if (!limited()) return;
  allowance_ -= 1;
  told_.insert(id);
}

void RolloutGate::failing(const std::string& id, bool fails) {
  if (!fails || !told_.contains(id)) {
    failing_.erase(id);
    return;
  }
  failing_.insert(id);
  if (rollout_.failures_max == 0 || failing_.size() <= rollout_.failures_max) return;
  if (!stopped_.empty()) return;
  stopped_ = fmt::format("{} of the {} identities that were told are failing, for example {}",
                         failing_.size(), told_.size(), id);
}

}  // namespace dmm::view
