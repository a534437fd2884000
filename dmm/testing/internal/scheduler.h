#pragma once

// A Scheduler is the Runtime of a simulation: the threads of the production code, one at a time, on
// a clock that jumps.
//
// The thread that makes it belongs to it, and so does every internal::Thread that one of its
// threads starts. Only one of them runs; where it waits, ends or yields, the seed decides who goes
// on. When all wait, the clock jumps to the earliest deadline. So the same seed is the same run,
// and an hour takes as long as what happens in it.
//
// Each thread is of a group, that of the thread that started it: the threads of one program.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dmm/internal/runtime.h"

namespace dmm::testing {

struct SchedulerOptions {
  std::uint64_t seed = 0;
  /// For so long, in reality, one thread may run before it counts as blocked: by a mutex whose
  /// owner waits, or by something that is not simulated.
  std::chrono::milliseconds patience = std::chrono::seconds(30);
  bool abort_if_blocked = false;  ///< else it is said on standard error
};

/// Used by its own threads, but for notify() and wherever it says so.
class Scheduler final : public internal::Runtime {
 public:
  using Group = std::uint32_t;

  explicit Scheduler(const SchedulerOptions& options);
  /// All other threads have ended.
  ~Scheduler() override;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// The group of the calling thread, which is inherited by those that it starts.
  Group group() const noexcept { return running_->group; }
  void set_group(Group group) noexcept { running_->group = group; }

  /// No thread of the group runs for so long, as behind SIGSTOP.
  void freeze(Group group, std::chrono::nanoseconds time);
  /// The system clock of a group jumps.
  void shift_clock(Group group, std::chrono::nanoseconds by);
  /// What is called at each crash point that a thread comes to.
  using AtCrashPoint = std::function<void(Group group, std::string_view name)>;
  void at_crash_points(AtCrashPoint act) { at_crash_point_ = std::move(act); }
  /// Waits for so long.
  void pass(std::chrono::nanoseconds time);
  /// Since the beginning.
  std::chrono::nanoseconds elapsed() const noexcept;
  /// How often another thread went on.
  std::uint64_t switches() const noexcept { return switches_; }

  // internal::Runtime
  Time steady_now() noexcept override;
  std::chrono::system_clock::time_point system_now() noexcept override;
  std::uint64_t random() noexcept override { return random_(); }
  void prepare_wait(const void* on, Time deadline) noexcept override;
  bool wait() noexcept override;
  void notify(const void* on, bool all) noexcept override;
  internal::Runtime::StrandPtr spawn() override;
  void enter(const internal::Runtime::StrandPtr& strand) noexcept override;
  void leave() noexcept override;
  void join(const internal::Runtime::StrandPtr& strand) noexcept override;
  void yield() noexcept override;
  void crash_point(std::string_view name) override;

 private:
  /// What lets one thread run.
  class Baton {
   public:
    void give();
    void take();

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool given_ = false;
  };

  enum class State : std::uint8_t { ready, waiting, ended };
  struct Task final : Strand {
    std::uint64_t number = 0;
    Group group = 0;
    State state = State::ready;
    const void* on = nullptr;  ///< what it waits for
    Time deadline;
    bool notified = false;
    Baton baton;
  };
  using TaskPtr = std::shared_ptr<Task>;

  /// Lets another thread go on, or the same, and returns when the caller may.
  void hand_over(std::unique_lock<std::mutex>& lock);
  Task* choose();
  [[noreturn]] void stuck() const;
  std::string describe() const;
  void watch(const std::stop_token& stop, std::chrono::milliseconds patience, bool abort_it);

  mutable std::mutex mutex_;  ///< for those who do not belong to it
  std::mt19937_64 random_;
  std::mt19937_64 choices_;
  std::vector<TaskPtr> tasks_;  ///< in the order of their numbers; those that ended leave
  std::vector<Task*> candidates_;
  std::uint64_t started_ = 0;
  Task* running_ = nullptr;
  Time now_;
  std::vector<Time> frozen_;  ///< by group, until when
  std::map<Group, std::chrono::nanoseconds> shifts_;
  AtCrashPoint at_crash_point_;
  std::atomic<std::uint64_t> switches_ = 0;

  std::mutex watch_mutex_;
  std::condition_variable_any watch_changed_;
  std::jthread watcher_;  ///< last: it ends first
};

}  // namespace dmm::testing
