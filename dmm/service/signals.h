#pragma once

#include <chrono>
#include <csignal>

namespace dmm::service {

/// What woke the main thread.
struct Wakes {
  int ends = 0;         ///< SIGTERM and SIGINT since the last look
  bool reload = false;  ///< SIGHUP
};

/// Takes SIGTERM, SIGINT and SIGHUP for the main thread, and ignores SIGPIPE, as long as it lives.
/// One at a time in a process. What the program starts gets the signals as they were before.
class Signals final {
 public:
  Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

  /// Waits until a signal came, wake() was called or the time is over. Main thread.
  Wakes wait(std::chrono::milliseconds timeout);
  /// Any thread.
  static void wake() noexcept;

 private:
  struct sigaction before_[4]{};
};

}  // namespace dmm::service
