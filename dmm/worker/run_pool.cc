#include "dmm/worker/run_pool.h"

#include "dmm/internal/runtime.h"

namespace dmm::worker {

RunPool::RunPool(std::size_t threads) : threads_max_(threads) {}

RunPool::~RunPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (internal::Thread& thread : threads_) thread.join();
}

void RunPool::submit(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_one();
}

void RunPool::limit(std::size_t threads) {
  const std::lock_guard lock(mutex_);
  threads_max_ = threads;
  wake_one();
}

void RunPool::wake_one() {
  if (waking_ || tasks_.empty() || running_ >= threads_max_) return;
  if (idle_ > 0) {
    waking_ = true;
    changed_.notify_one();
  } else if (threads_.size() < threads_max_) {
    waking_ = true;
    threads_.emplace_back([this] { run(); });
  }
}

void RunPool::run() {
  std::unique_lock lock(mutex_);
  waking_ = false;
  while (true) {
    if (tasks_.empty() || running_ >= threads_max_) {
      if (tasks_.empty() && stopping_) {
        changed_.notify_all();  // others may wait for a slot that nobody needs any more
        return;
      }
      ++idle_;
      changed_.wait(lock);
      --idle_;
      waking_ = false;
      continue;
    }
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    ++running_;
    wake_one();
    lock.unlock();
    task();
    lock.lock();
    --running_;
  }
}

}  // namespace dmm::worker
