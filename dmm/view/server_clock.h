#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "dmm/internal/runtime.h"

namespace dmm::view {

/// What time it is where rows are stored: the latest time that was heard from there, and since then
/// as much later as this machine's steady clock went on. It is behind by the way of a message, and
/// never ahead, unless the clock there is put back. This machine's system clock has no part in it,
/// because it may jump. One thread.
class ServerClock {
 public:
  using Time = std::chrono::system_clock::time_point;

  /// It was `time` there, just now or before. What is earlier than is known says nothing.
  void note(Time time) noexcept {
    const Offset ahead = time.time_since_epoch() - here();
    ahead_ = std::max(ahead, ahead_.value_or(ahead));
  }
  /// Nothing if no time was heard yet.
  std::optional<Time> now() const noexcept {
    if (!ahead_) return std::nullopt;
    return Time(std::chrono::duration_cast<Time::duration>(here() + *ahead_));
  }

 private:
  using Offset = std::chrono::nanoseconds;
  static Offset here() noexcept { return internal::SteadyClock::now().time_since_epoch(); }

  std::optional<Offset> ahead_;  ///< their time less this machine's steady one
};

}  // namespace dmm::view
