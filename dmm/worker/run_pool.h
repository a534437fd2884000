#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace dmm::worker {

/// The threads on which handlers run. Bounded by its owner, who never submits more than `threads`
/// tasks at a time. Destroying it waits for the tasks that run.
class RunPool {
 public:
  explicit RunPool(std::size_t threads);
  ~RunPool();
  RunPool(const RunPool&) = delete;
  RunPool& operator=(const RunPool&) = delete;

  /// task   must not throw.
  void submit(std::function<void()> task);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  const std::size_t threads_max_;
  std::vector<std::thread> threads_;  ///< started when first needed
};

}  // namespace dmm::worker
