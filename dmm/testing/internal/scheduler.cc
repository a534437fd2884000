#include "dmm/testing/internal/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace dmm::testing {

namespace {

using namespace std::chrono_literals;
using std::chrono::duration_cast;
using std::chrono::nanoseconds;
using std::chrono::system_clock;
using Time = internal::Runtime::Time;

constexpr Time kBeginning = Time(std::chrono::hours(1));  // zero means "never" in some places
// 2026-01-01, a round figure in what is printed.
constexpr auto kCalendar = system_clock::time_point(std::chrono::seconds(1'767'225'600));
constexpr auto kLook = 100ns;                 // what a look at the clock costs
constexpr std::uint64_t kSwitchMax = 20'000;  // nanoseconds that handing over costs, at most
constexpr std::uint64_t kYieldOneOf = 4;

}  // namespace

void Scheduler::Baton::give() {
  const std::lock_guard lock(mutex_);
  given_ = true;
  changed_.notify_one();
}

void Scheduler::Baton::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return given_; });
  given_ = false;
}

Scheduler::Scheduler(const SchedulerOptions& options)
    : random_(options.seed), choices_(options.seed ^ 0x9E3779B97F4A7C15u), now_(kBeginning) {
  auto task = std::make_shared<Task>();
  task->number = ++started_;
  running_ = task.get();
  tasks_.push_back(std::move(task));
  set_current(this);
  watcher_ = std::jthread([this, options](const std::stop_token& stop) {
    watch(stop, options.patience, options.abort_if_blocked);
  });
}

Scheduler::~Scheduler() {
  set_current(nullptr);
}

// ---- time

Time Scheduler::steady_now() noexcept {
  return now_ += kLook;
}

system_clock::time_point Scheduler::system_now() noexcept {
  const auto shift = shifts_.find(running_->group);
  const nanoseconds by = shift == shifts_.end() ? nanoseconds(0) : shift->second;
  return kCalendar + duration_cast<system_clock::duration>(steady_now() - kBeginning + by);
}

nanoseconds Scheduler::elapsed() const noexcept {
  return now_ - kBeginning;
}

void Scheduler::freeze(Group group, nanoseconds time) {
  const std::lock_guard lock(mutex_);
  if (frozen_.size() <= group) frozen_.resize(group + 1);
  frozen_[group] = std::max(frozen_[group], now_ + time);
}

void Scheduler::shift_clock(Group group, nanoseconds by) {
  shifts_[group] += by;
}

void Scheduler::pass(nanoseconds time) {
  const int nobody = 0;  // notifies it
  const Time until = now_ + time;
  while (now_ < until) {
    prepare_wait(&nobody, until);
    wait();
  }
}

// ---- who runs

void Scheduler::prepare_wait(const void* on, Time deadline) noexcept {
  const std::lock_guard lock(mutex_);
  running_->state = State::waiting;
  running_->on = on;
  running_->deadline = deadline;
  running_->notified = false;
}

bool Scheduler::wait() noexcept {
  std::unique_lock lock(mutex_);
  Task* const self = running_;
  hand_over(lock);
  return self->notified;
}

void Scheduler::notify(const void* on, bool all) noexcept {
  const std::lock_guard lock(mutex_);
  std::vector<Task*> waiting;
  for (const TaskPtr& task : tasks_) {
    if (task->state == State::waiting && task->on == on) waiting.push_back(task.get());
  }
  if (waiting.empty()) return;
  if (!all && waiting.size() > 1) waiting = {waiting[choices_() % waiting.size()]};
  for (Task* const task : waiting) {
    task->state = State::ready;
    task->on = nullptr;
    task->notified = true;
  }
}

internal::Runtime::StrandPtr Scheduler::spawn() {
  const std::lock_guard lock(mutex_);
  auto task = std::make_shared<Task>();
  task->number = ++started_;
  task->group = running_->group;
  tasks_.push_back(task);
  return task;
}

void Scheduler::enter(const StrandPtr& strand) noexcept {
  set_current(this);
  static_cast<Task&>(*strand).baton.take();
}

void Scheduler::leave() noexcept {
  set_current(nullptr);
  Task* next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto self = std::ranges::find_if(
        tasks_, [this](const TaskPtr& task) { return task.get() == running_; });
    (*self)->state = State::ended;
    for (const TaskPtr& task : tasks_) {
      if (task->state != State::waiting || task->on != self->get()) continue;
      task->state = State::ready;
      task->notified = true;
    }
    tasks_.erase(self);
    next = choose();
  }
  next->baton.give();
}

void Scheduler::join(const StrandPtr& strand) noexcept {
  const auto& task = static_cast<const Task&>(*strand);
  while (task.state != State::ended) {
    prepare_wait(&task, Time::max());
    wait();
  }
}

void Scheduler::yield() noexcept {
  std::unique_lock lock(mutex_);
  if (choices_() % kYieldOneOf == 0) hand_over(lock);
}

void Scheduler::crash_point(std::string_view name) {
  if (at_crash_point_) at_crash_point_(running_->group, name);
  yield();
}

void Scheduler::hand_over(std::unique_lock<std::mutex>& lock) {
  Task* const self = running_;
  Task* const next = choose();
  lock.unlock();
  if (next == self) return;
  next->baton.give();
  self->baton.take();
}

/// The one that goes on; time passes until one can. Under the mutex.
Scheduler::Task* Scheduler::choose() {
  switches_.fetch_add(1, std::memory_order_relaxed);
  now_ += nanoseconds(choices_() % kSwitchMax);
  while (true) {
    candidates_.clear();
    Time soonest = Time::max();
    for (const TaskPtr& task : tasks_) {
      Time when = task->state == State::ready ? now_ : task->deadline;
      if (task->group < frozen_.size()) when = std::max(when, frozen_[task->group]);
      if (when <= now_) candidates_.push_back(task.get());
      soonest = std::min(soonest, when);
    }
    if (!candidates_.empty()) break;
    if (soonest == Time::max()) stuck();
    now_ = soonest;
  }
  running_ = candidates_[choices_() % candidates_.size()];
  running_->state = State::ready;
  running_->on = nullptr;
  return running_;
}

// ---- what must not be

std::string Scheduler::describe() const {
  std::string text;
  for (const TaskPtr& task : tasks_) {
    text += fmt::format("  thread {} of group {}: {}", task->number, task->group,
                        task.get() == running_          ? "runs"
                        : task->state == State::waiting ? "waits"
                                                        : "may run");
    if (task->state == State::waiting && task->deadline != Time::max()) {
      text += fmt::format(" until {:.3f} s",
                          std::chrono::duration<double>(task->deadline - kBeginning).count());
    }
    text += '\n';
  }
  return text;
}

void Scheduler::stuck() const {
  fmt::print(stderr, "dmm::testing: at {:.3f} s every thread waits for another one:\n{}",
             std::chrono::duration<double>(elapsed()).count(), describe());
  std::abort();
}

void Scheduler::watch(const std::stop_token& stop, std::chrono::milliseconds patience,
                      bool abort_it) {
  std::unique_lock lock(watch_mutex_);
  std::uint64_t before = 0;
  bool said = false;
  while (!stop.stop_requested()) {
    watch_changed_.wait_for(lock, stop, patience, [] { return false; });
    const std::uint64_t present = switches_.load(std::memory_order_relaxed);
    if (stop.stop_requested() || std::exchange(before, present) != present || said) continue;
    said = true;
    std::string text;
    {
      const std::lock_guard looking(mutex_);
      text = describe();
    }
    fmt::print(
        stderr,
        "dmm::testing: for {} ms of real time no thread of the simulation has waited; it may "
        "hold or want a mutex while another one waits, or sleep:\n{}",
        patience.count(), text);
    if (abort_it) std::abort();
  }
}

}  // namespace dmm::testing
