#include "dmm/service/signals.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>

namespace dmm::service {

namespace {

constexpr int kTaken[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};

// A handler may do next to nothing: it counts, and writes a byte to a pipe on which the main thread
// waits.
std::atomic<int> ends{0};
std::atomic<bool> reload{false};
int pipe_ends[2] = {-1, -1};

void on_signal(int number) {
  const int saved = errno;
  number == SIGHUP ? reload.store(true) : void(++ends);
  Signals::wake();
  errno = saved;
}

}  // namespace

Signals::Signals() {
  ends = 0;
  reload = false;
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    throw std::system_error(errno, std::generic_category(), "a pipe for signals");
  }
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (int i = 0; i < 4; ++i) {
    if (kTaken[i] == SIGPIPE) action.sa_handler = SIG_IGN;
    sigaction(kTaken[i], &action, &before_[i]);
  }
}

Signals::~Signals() {
  for (int i = 0; i < 4; ++i) sigaction(kTaken[i], &before_[i], nullptr);
  for (int& end : pipe_ends) ::close(end);
  pipe_ends[0] = pipe_ends[1] = -1;
}

Wakes Signals::wait(std::chrono::milliseconds timeout) {
  pollfd waited{pipe_ends[0], POLLIN, 0};
  ::poll(&waited, 1, static_cast<int>(timeout.count()));
  char bytes[64];
  while (::read(pipe_ends[0], bytes, sizeof(bytes)) > 0) {
  }
  return {ends.exchange(0), reload.exchange(false)};
}

void Signals::wake() noexcept {
  // A full pipe wakes as well.
  [[maybe_unused]] const ssize_t written = ::write(pipe_ends[1], "", 1);
}

}  // namespace dmm::service
