#include "tests/bench/loop/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace dmm::bench {

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
