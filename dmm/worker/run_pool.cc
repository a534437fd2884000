#include "dmm/worker/run_pool.h"

#include <nlohmann/json.hpp>

#include <exception>
#include <utility>

namespace dmm::worker {

RunPool::RunPool(std::size_t threads, Logger log, Start start)
    : log_(std::move(log)),
      start_(start ? std::move(start)
                   : [](std::function<void()> body) { return internal::Thread(std::move(body)); }),
      threads_max_(threads) {}

RunPool::~RunPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (internal::Thread& thread : threads_) thread.join();
  run_here();
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

void RunPool::run_here() {
  std::deque<std::function<void()>> left;
  {
    const std::lock_guard lock(mutex_);
    if (threads_.empty()) left.swap(tasks_);
  }
  for (const auto& task : left) task();
}

void RunPool::look() {
  const std::lock_guard lock(mutex_);
  wake_one();
}

void RunPool::wake_one() {
  if (waking_ || tasks_.empty() || running_ >= threads_max_) return;
  if (idle_ > 0) {
    waking_ = true;
    changed_.notify_one();
  } else if (threads_.size() < threads_max_) {
    start_one();
  }
}

void RunPool::start_one() {
  if (missing_ && Clock::now() < next_start_) return;
  try {
    if (threads_.size() == threads_.capacity()) threads_.reserve(2 * threads_.size() + 1);
    waking_ = true;
    threads_.push_back(start_([this] { run(); }));
    if (missing_.exchange(false)) log_.info("there are threads for runs again");
  } catch (const std::exception& error) {
    waking_ = false;
    ++refused_;
    next_start_ = Clock::now() + kTryAgain;
    if (missing_.exchange(true)) return;
    log_.error("the system makes no more threads; runs share those that there are",
               {{"threads", threads_.size()},
                {"wanted", threads_max_},
                {"error", error.what()},
                {"remedy", "raise TasksMax, the limit of processes or that of memory"}});
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
