#include "dmm/view/removals.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/limits.h"

namespace dmm::view {

std::vector<std::string> Removals::propose(std::vector<std::string> vanished, std::size_t rows,
                                           Clock::time_point now) {
  if (vanished.empty()) return {};
  forget_old(now);
  const std::size_t going = recent_ + vanished.size();
  const std::size_t before = rows + going;
  const std::size_t most = std::max(free_, before * limits::removals_percent / 100);
  if (!doubt_ && held_.empty() && going <= most) {
    gone_.push_back({now, vanished.size()});
    recent_ = going;
    return vanished;
  }
  if (held_.empty() && going > most) {
    limit_ = fmt::format("{} of {} rows would be removed within a minute, more than {}", going,
                         before, most);
  }
  for (std::string& id : vanished) held_.insert(std::move(id));
  return {};
}

void Removals::doubt(std::string reason) {
  doubt_ = std::move(reason);
}

std::vector<std::string> Removals::approve() {
  std::vector<std::string> approved(held_.begin(), held_.end());
  std::sort(approved.begin(), approved.end());
  held_.clear();
  doubt_.reset();
  limit_.clear();
  gone_.clear();
  recent_ = 0;
  return approved;
}

std::string Removals::reason() const {
  if (doubt_) return *doubt_;
  return held_.empty() ? std::string() : limit_;
}

void Removals::forget_old(Clock::time_point now) {
  while (!gone_.empty() && now - gone_.front().at > limits::removals_window) {
    recent_ -= gone_.front().count;
    gone_.pop_front();
  }
}

}  // namespace dmm::view
