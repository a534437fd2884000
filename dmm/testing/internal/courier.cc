#include "dmm/testing/internal/courier.h"

#include <algorithm>
#include <utility>

namespace dmm::testing {

namespace {

thread_local const Courier* t_courier = nullptr;  // whose thread this is

}  // namespace

Courier::Courier(HandOut hand_out)
    : hand_out_(std::move(hand_out)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

Courier::~Courier() {
  close();
}

Courier::Task Courier::post(Task task, Clock::time_point due) {
  const std::lock_guard lock(mutex_);
  if (closed_) return task;
  tasks_.emplace(due, std::move(task));
  changed_.notify_all();
  return {};
}

void Courier::wake() {
  const std::lock_guard lock(mutex_);
  ++wakes_;
  changed_.notify_all();
}

bool Courier::is_this_thread() const noexcept {
  return t_courier == this;
}

void Courier::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

/// A task whose time has come; an empty one if there is none. Under the mutex.
Courier::Task Courier::take(Clock::time_point now) {
  if (tasks_.empty() || tasks_.begin()->first > now) return {};
  return std::move(tasks_.extract(tasks_.begin()).mapped());
}

void Courier::run(const std::stop_token& stop) {
  t_courier = this;
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const std::uint64_t seen = wakes_;
    Task task = take(Clock::now());
    const bool did = task != nullptr;
    lock.unlock();
    internal::yield();
    if (did) task();
    task = nullptr;  // with what it holds, outside of the lock
    auto until = hand_out_ ? hand_out_() : Clock::time_point::max();
    lock.lock();
    if (did || until == Clock::time_point::min()) continue;
    if (!tasks_.empty()) until = std::min(until, tasks_.begin()->first);
    const auto due = [&] {
      return wakes_ != seen || (!tasks_.empty() && tasks_.begin()->first < until) ||
             (!tasks_.empty() && tasks_.begin()->first <= Clock::now());
    };
    if (until == Clock::time_point::max()) {
      changed_.wait(lock, stop, due);
    } else {
      changed_.wait_until(lock, stop, until, due);
    }
  }
  while (Task task = take(Clock::time_point::max())) {
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace dmm::testing
