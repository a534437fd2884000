#include "tests/nemesis/roles.h"

#include <fmt/format.h>

#include <ctime>

namespace dmm::nemesis {

namespace {

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

Ending::Ending() {
  ::sigemptyset(&signals_);
  ::sigaddset(&signals_, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

bool Ending::wait(std::chrono::nanoseconds time) const {
  const timespec pause{time.count() / kNanosecondsPerSecond, time.count() % kNanosecondsPerSecond};
  return ::sigtimedwait(&signals_, nullptr, &pause) == SIGTERM;
}

std::string runs_file(const std::string& directory, std::uint32_t life) {
  return fmt::format("{}/runs-{}.txt", directory, life);
}

std::string notified_file(const std::string& directory, std::uint32_t notifier) {
  return fmt::format("{}/notified-{}.txt", directory, notifier);
}

std::string world_file(const std::string& directory) {
  return directory + "/world";
}

}  // namespace dmm::nemesis
