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

}  // namespace

bool becomes_true(const std::function<bool()>& condition, std::chrono::milliseconds deadline) {
  const auto end = internal::SteadyClock::now() + deadline;
  std::mutex mutex;
  internal::Condition never_notified;
  std::unique_lock lock(mutex);
  std::chrono::milliseconds pause = kPauseFirst;
  while (!condition()) {
    const auto now = internal::SteadyClock::now();
    if (now >= end) return condition();
    never_notified.wait_until(lock, std::min(now + pause, end));
    pause = std::min<std::chrono::milliseconds>(pause * 2, kPauseMax);
  }
  return true;
}

void wait_for(std::string_view what, const std::function<bool()>& condition,
              std::chrono::milliseconds deadline) {
  if (becomes_true(condition, deadline)) return;
  throw Error(code::timed_out, fmt::format("waited {} ms for {}", deadline.count(), what));
}

}  // namespace dmm::testing
