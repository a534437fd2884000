#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>

#include "dmm/internal/runtime.h"

namespace dmm::testing {

/// The thread on which a connection calls its user: it runs each task when its time has come, those
/// of the same time in their order, and in between hands out what else there is. Thread-safe.
class Courier final {
 public:
  using Clock = internal::SteadyClock;
  using Task = std::function<void()>;
  /// Hands out a little; returns when there may be more: Clock::time_point::min() at once,
  /// Clock::time_point::max() not before wake().
  using HandOut = std::function<Clock::time_point()>;

  explicit Courier(HandOut hand_out = {});
  /// As close().
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  /// Returns the task if the courier is closed and will not run it, else nothing.
  Task post(Task task, Clock::time_point due = {});
  /// There may be something to hand out.
  void wake();
  bool is_this_thread() const noexcept;

  /// Runs what is posted, whether it is due or not, hands nothing out any more and ends the thread.
  /// Not to be called by a task.
  void close();

 private:
  void run(const std::stop_token& stop);
  Task take(Clock::time_point now);

  const HandOut hand_out_;
  std::mutex mutex_;
  internal::StopCondition changed_;
  std::multimap<Clock::time_point, Task> tasks_;
  std::uint64_t wakes_ = 0;
  bool closed_ = false;
  internal::Thread thread_;  ///< last: it ends first
};

}  // namespace dmm::testing
