#pragma once

// How a process that a signal ends still says which run it was in. Who works on after it would
// otherwise have to suspect all that ran there. The words go into the life locks of the process
// (life_locks.h), which are open already and outlive it.

#include <sys/types.h>

#include <string>
#include <string_view>

namespace dmm::worker {

/// The run in which a process ended, as it is named by InRun, and the signal, such as "SIGSEGV".
struct LastWords {
  std::string run;
  std::string signal;
};

/// From now on the last words of this process are written into the file, at this offset, until
/// leave_no_last_words(). The first call takes SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, and
/// passes them on to who had them before. Beyond some hundred files a file gets none. Thread-safe.
void leave_last_words(int file, off_t offset) noexcept;
/// Before the file is closed.
void leave_no_last_words(int file) noexcept;

/// Reads what was written; an empty run if nothing was, or something else.
LastWords read_last_words(std::string_view text);

/// While it lives, a signal that ends the process on this thread is put down to a run; but not one
/// that another process sent. One at a time on each thread. These signals are unblocked there, and
/// the thread gets another stack for them, so that they are heard where its own is exhausted.
class [[nodiscard]] InRun final {
 public:
  /// run   without line breaks; outlives it.
  explicit InRun(std::string_view run) noexcept;
  ~InRun();
  InRun(const InRun&) = delete;
  InRun& operator=(const InRun&) = delete;
};

}  // namespace dmm::worker
