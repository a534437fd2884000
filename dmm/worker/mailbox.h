#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

namespace dmm::worker {

/// What other threads send to an owner thread: small functions that it runs in their order. Bounded
/// by what the owner has asked for (grants, runs and requests in flight), not by itself.
class Mailbox {
 public:
  /// Any thread.
  void post(std::function<void()> message) {
    const std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
    if (messages_.size() == 1) arrived_.notify_one();
  }

  /// Owner thread: waits for a message until `deadline` and runs all that are there.
  void run_until(std::chrono::steady_clock::time_point deadline) {
    {
      std::unique_lock lock(mutex_);
      arrived_.wait_until(lock, deadline, [this] { return !messages_.empty(); });
      batch_.swap(messages_);
    }
    for (const auto& message : batch_) message();
    batch_.clear();
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::function<void()>> messages_;
  std::vector<std::function<void()>> batch_;  ///< kept to reuse its memory
};

}  // namespace dmm::worker
