#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <vector>

#include "dmm/internal/runtime.h"

namespace dmm::worker {

/// What other threads send to an owner: small functions that run in their order, one at a time.
/// Bounded by what the owner has asked for (grants, runs and requests in flight), not by itself.
///
/// The owner thread runs them, and between its turns it waits. While it waits, whoever posts may
/// run them in its place, which saves waking it: what counts is that only one thread at a time is
/// at work on the owner's state, and that each sees what the one before it did.
class Mailbox {
 public:
  using Clock = internal::SteadyClock;

  /// advance   called after each batch of messages that a poster ran, to go on with what they
  ///           started; returns when the owner has to be awake at the latest. Without it, only the
  ///           owner thread runs messages.
  explicit Mailbox(std::function<Clock::time_point()> advance = {})
      : advance_(std::move(advance)) {}

  /// Any thread. The message may be run before this returns, so it must not be posted with a lock
  /// held that it takes.
  void post(std::function<void()> message) {
    std::unique_lock lock(mutex_);
    messages_.push_back(std::move(message));
    if (!owner_waits_ || borrowed_) return;
    if (!advance_) {
      changed_.notify_one();
      return;
    }
    borrowed_ = true;
    run_as_guest(lock);
    borrowed_ = false;
    if (!messages_.empty() || woken_ || owner_is_due_) changed_.notify_one();
  }

  /// Any thread: ends the owner's wait, so that it looks at its conditions.
  void wake() {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    changed_.notify_one();
  }

  /// Owner thread: waits for a message or a wake() until `deadline`, and runs all messages.
  void run_until(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    owner_waits_ = true;
    deadline_ = deadline;
    changed_.wait_until(lock, deadline,
                        [this] { return !borrowed_ && (woken_ || !messages_.empty()); });
    // Past its deadline the owner has work of its own, and a guest has to leave.
    owner_is_due_ = true;
    changed_.wait(lock, [this] { return !borrowed_; });
    owner_is_due_ = false;
    owner_waits_ = false;
    woken_ = false;
    std::vector<std::function<void()>> batch;
    batch.swap(messages_);
    lock.unlock();
    for (const auto& message : batch) message();
  }

 private:
  void run_as_guest(std::unique_lock<std::mutex>& lock) {
    // A guest has other things to do: under a steady stream the owner takes over.
    constexpr int kBatchesMax = 4;
    for (int i = 0; i < kBatchesMax && !messages_.empty() && !woken_ && !owner_is_due_; ++i) {
      std::vector<std::function<void()>> batch;
      batch.swap(messages_);
      lock.unlock();
      for (const auto& message : batch) message();
      const Clock::time_point needed = advance_();
      lock.lock();
      if (needed < deadline_) woken_ = true;
    }
  }

  const std::function<Clock::time_point()> advance_;
  std::mutex mutex_;
  internal::Condition changed_;
  std::vector<std::function<void()>> messages_;
  bool owner_waits_ = false;
  bool borrowed_ = false;  ///< a guest is at work
  bool owner_is_due_ = false;
  bool woken_ = false;
  Clock::time_point deadline_;
};

}  // namespace dmm::worker
