#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "dmm/internal/runtime.h"

namespace dmm::worker {

/// The threads on which handlers run, at most `threads` at a time; what is submitted beyond that
/// waits in its order. Bounded by its owner. Destroying it waits for all tasks.
///
/// One thread is woken at a time, and wakes the next one if there is more to do: many short tasks
/// are then done by few threads without a wake-up each, long ones by many.
class RunPool {
 public:
  explicit RunPool(std::size_t threads);
  ~RunPool();
  RunPool(const RunPool&) = delete;
  RunPool& operator=(const RunPool&) = delete;

  /// task   must not throw.
  void submit(std::function<void()> task);

  /// Tasks at a time from now on; those that run go on.
  void limit(std::size_t threads);

 private:
  void run();
  void wake_one();

  std::mutex mutex_;
  internal::Condition changed_;
  std::deque<std::function<void()>> tasks_;
  std::size_t idle_ = 0;
  std::size_t running_ = 0;
  bool waking_ = false;  ///< a thread was woken and has not taken its task yet
  bool stopping_ = false;
  std::size_t threads_max_;
  std::vector<internal::Thread> threads_;  ///< started when first needed
};

}  // namespace dmm::worker
