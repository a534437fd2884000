#include "tests/bench/fleet/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

namespace dmm::bench {

void Board::note(std::int64_t latency_ns) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t at = samples.fetch_add(1);
  if (at >= kSamplesMax) return;
  latency_us[at] =
      static_cast<std::uint32_t>(std::clamp<std::int64_t>(latency_ns / 1'000, 1, kMost));
}

std::vector<double> Board::latencies(std::uint64_t first) const {
  std::vector<double> values;
  const std::uint64_t end = std::min<std::uint64_t>(samples, kSamplesMax);
  for (std::uint64_t at = first; at < end; ++at) {
    if (const std::uint32_t us = latency_us[at]; us > 0) values.push_back(us / 1e3);
  }
  return values;
}

SharedBoard::SharedBoard(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), file.string());
  void* memory = MAP_FAILED;
  if (::ftruncate(fd, sizeof(Board)) == 0) {
    memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  ::close(fd);
  if (memory == MAP_FAILED) throw std::system_error(error, std::generic_category(), file.string());
  board_ = static_cast<Board*>(memory);
}

SharedBoard::~SharedBoard() {
  ::munmap(board_, sizeof(Board));
}

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace dmm::bench
