#include "dmm/testing/wait_for.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"

namespace dmm::testing {

namespace {

using namespace std::chrono_literals;

// The first looks follow each other closely because most things are nearly done; the later ones
// leave the processor to what is waited for.
constexpr auto kPauseFirst = 1ms;
constexpr auto kPauseMax = 20ms;
// Who wakes so much later than it asked for stood still, with all that it waits for, and that time
// does not count; but a process that is starved for ever has to end.
constexpr auto kStoodStill = 200ms;
constexpr std::chrono::nanoseconds kForgivenMax = 30s;

// Virtual time passes by the hour: who looks at it every moment would look for a long time.
std::chrono::milliseconds virtual_pause_max(std::chrono::nanoseconds waited) {
  constexpr int kPart = 16;
  const auto part = std::chrono::duration_cast<std::chrono::milliseconds>(waited / kPart);
  return std::clamp<std::chrono::milliseconds>(part, kPauseMax, 10s);
}

}  // namespace

bool becomes_true(const std::function<bool()>& condition, std::chrono::milliseconds deadline) {
  const auto begun = internal::SteadyClock::now();
  auto end = begun + deadline;
  std::mutex mutex;
  internal::Condition never_notified;
  std::unique_lock lock(mutex);
  std::chrono::milliseconds pause = kPauseFirst;
  while (!condition()) {
    const auto now = internal::SteadyClock::now();
    const bool virtual_time = internal::simulation() != nullptr;
    if (now >= end) return condition();
    const auto wake = std::min(now + pause, end);
    never_notified.wait_until(lock, wake);
    const auto late = internal::SteadyClock::now() - wake;
    if (!virtual_time && late > kStoodStill) {
      end = std::min(end + late, begun + deadline + kForgivenMax);
    }
    pause = std::min<std::chrono::milliseconds>(
        pause * 2, virtual_time ? virtual_pause_max(now - begun) : kPauseMax);
  }
  return true;
}

void wait_for(std::string_view what, const std::function<bool()>& condition,
              std::chrono::milliseconds deadline) {
  if (becomes_true(condition, deadline)) return;
  throw Error(code::timed_out, fmt::format("waited {} ms for {}", deadline.count(), what));
}

}  // namespace dmm::testing
