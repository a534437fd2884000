#pragma once

#include <stop_token>
#include <thread>

namespace dmm::cli {

/// From now on SIGINT, SIGTERM and SIGHUP end the program with exit code 130, and SIGPIPE is no
/// signal any more. Called once, first thing in main().
void install_interrupts();

/// As long as it lives, the first SIGINT, SIGTERM or SIGHUP asks its token to stop instead; a
/// second one ends the program at once. One at a time, on the main thread.
class StopOnInterrupt final {
 public:
  StopOnInterrupt();
  StopOnInterrupt(const StopOnInterrupt&) = delete;
  StopOnInterrupt& operator=(const StopOnInterrupt&) = delete;
  ~StopOnInterrupt();

  std::stop_token token() const noexcept { return source_.get_token(); }
  /// Asks to stop for another reason than a signal.
  void stop() noexcept { source_.request_stop(); }
  /// True if a signal came.
  bool interrupted() const noexcept;

 private:
  std::stop_source source_;
  int pipe_[2] = {-1, -1};
  std::jthread thread_;
};

}  // namespace dmm::cli
