#include "tests/nemesis/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace dmm::nemesis {

namespace {

constexpr Nanoseconds kInterval = kSecond / 4;
constexpr std::size_t kColumns = 80;  // of a terminal that does not say

std::size_t columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kColumns;
  return size.ws_col;
}

}  // namespace

Progress::Progress(int seconds) : seconds_(seconds), on_(::isatty(STDERR_FILENO) == 1) {}

void Progress::put(const std::string& line) {
  fmt::print(stderr, "\r\033[K{}", line.substr(0, columns() - 1));
  std::fflush(stderr);
}

void Progress::say(const std::string& what) {
  if (on_) put(what);
}

void Progress::clear() {
  if (on_) put("");
}

void Progress::show(World& world, const Nemesis& nemesis) {
  const Nanoseconds now = now_ns();
  if (began_ == 0) began_ = now;
  if (!on_ || now < next_) return;
  next_ = now + kInterval;
  const Deeds& deeds = nemesis.deeds();
  put(fmt::format("{:>4} of {} s  {} notifies  {} runs  {} kills  {} server faults  {}",
                  (now - began_) / kSecond, seconds_, world.counters().notified.load(),
                  world.counters().succeeded.load(), deeds.worker_kills, deeds.server_faults,
                  nemesis.mood()));
}

}  // namespace dmm::nemesis
