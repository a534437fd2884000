#include "tests/bench/support/pace.h"

#include <time.h>

namespace dmm::bench {

void wait_until(std::chrono::steady_clock::time_point then) {
  constexpr long kNanosecondsPerSecond = 1'000'000'000;
  const auto left =
      std::chrono::duration_cast<std::chrono::nanoseconds>(then - std::chrono::steady_clock::now());
  if (left.count() <= 0) return;
  const timespec pause{left.count() / kNanosecondsPerSecond, left.count() % kNanosecondsPerSecond};
  ::nanosleep(&pause, nullptr);
}

}  // namespace dmm::bench
