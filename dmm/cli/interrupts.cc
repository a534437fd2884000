#include "dmm/cli/interrupts.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>

#include "dmm/cli/exit_code.h"

namespace dmm::cli {

namespace {

// Written by the signal handler and by the main thread; lock-free, as a handler needs it.
std::atomic<int> signal_pipe{-1};
std::atomic<int> signals_seen{0};
static_assert(std::atomic<int>::is_always_lock_free);

constexpr char kSignal = 's';
constexpr char kEnd = 'e';

extern "C" void on_signal(int) {
  const int saved = errno;
  const int pipe = signal_pipe.load();
  if (pipe < 0 || signals_seen.fetch_add(1) > 0) ::_exit(exit_code::interrupted);
  // A pipe of this age has room for one byte; should it fail, the next signal ends the program.
  [[maybe_unused]] const ssize_t n = ::write(pipe, &kSignal, 1);
  errno = saved;
}

}  // namespace

void install_interrupts() {
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

StopOnInterrupt::StopOnInterrupt() {
  if (::pipe2(pipe_, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  thread_ = std::jthread([source = source_, pipe = pipe_[0]]() mutable {
    char what = kEnd;
    while (::read(pipe, &what, 1) < 0 && errno == EINTR) {
    }
    if (what == kSignal) source.request_stop();
  });
  signals_seen.store(0);
  signal_pipe.store(pipe_[1]);
}

StopOnInterrupt::~StopOnInterrupt() {
  signal_pipe.store(-1);
  [[maybe_unused]] const ssize_t n = ::write(pipe_[1], &kEnd, 1);
  thread_.join();
  ::close(pipe_[0]);
  ::close(pipe_[1]);
}

bool StopOnInterrupt::interrupted() const noexcept {
  return signals_seen.load() > 0;
}

}  // namespace dmm::cli
