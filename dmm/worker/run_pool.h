#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/log.h"

namespace dmm::worker {

/// The threads on which handlers run, at most `threads` at a time; what is submitted beyond that
/// waits in its order. Bounded by its owner. Destroying it waits for all tasks.
///
/// One thread is woken at a time, and wakes the next one if there is more to do: many short tasks
/// are then done by few threads without a wake-up each, long ones by many.
///
/// Where the system makes no more threads, those that are there go on with the work of all; without
/// any, tasks wait. Threads are asked for again at the next submit() or look_again().
class RunPool {
 public:
  using Start = std::function<internal::Thread(std::function<void()>)>;
  /// Between two attempts to make a thread that the system refused.
  static constexpr std::chrono::milliseconds kTryAgain{500};

  /// log     told, once, that threads are missing, and that they came back.
  /// start   makes a thread; what it throws means that the system makes none.
  explicit RunPool(std::size_t threads, Logger log = {}, Start start = {});
  ~RunPool();
  RunPool(const RunPool&) = delete;
  RunPool& operator=(const RunPool&) = delete;

  /// task   must not throw.
  void submit(std::function<void()> task);

  /// Tasks at a time from now on; those that run go on.
  void limit(std::size_t threads);

  /// Asks for the threads that are missing, if it is time to. For whoever turns anyway.
  void look_again() {
    if (missing_.load(std::memory_order_relaxed)) look();
  }

  /// Does what waits on the calling thread, if there never was another one: so that an end comes.
  void run_here();

  /// How often the system made no thread. Any thread.
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  using Clock = internal::SteadyClock;

  void run();
  void wake_one();
  void start_one();
  void look();

  const Logger log_;
  const Start start_;
  std::mutex mutex_;
  internal::Condition changed_;
  std::deque<std::function<void()>> tasks_;
  std::size_t idle_ = 0;
  std::size_t running_ = 0;
  bool waking_ = false;  ///< a thread was woken and has not taken its task yet
  bool stopping_ = false;
  std::size_t threads_max_;
  std::atomic<bool> missing_{false};  ///< a thread that is wanted could not be made
  std::atomic<std::uint64_t> refused_{0};
  Clock::time_point next_start_{};
  std::vector<internal::Thread> threads_;  ///< started when first needed
};

}  // namespace dmm::worker
