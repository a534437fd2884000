#pragma once

// What dmm asks of the system while it works: the time, threads, waiting, chance. Everything in
// dmm/ that does one of these does it through this file, but for what talks to real servers
// (dmm/nats, dmm/postgres) and the command line.
//
// In a program that is the standard library, behind one branch that is never taken. In a simulation
// (dmm/testing/internal/scheduler.h) a Runtime answers instead, for the threads that belong to it:
// they run one at a time, on a clock that jumps, in an order that a seed decides. So the code that
// is simulated is the code that works.
//
// Rule: nobody waits on a Condition, ends a Thread or calls a transport with a std::mutex held that
// another thread may want, but the one that the Condition lets go. In a simulation it would wait
// for ever.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

namespace dmm::internal {

/// Stands in for the system in a simulation. Called by the threads that belong to it, but for
/// notify(), which anybody may call.
class Runtime {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// A thread that belongs to it, or is about to.
  class Strand {
   public:
    virtual ~Strand() = default;
  };
  using StrandPtr = std::shared_ptr<Strand>;

  virtual ~Runtime() = default;

  virtual Time steady_now() noexcept = 0;
  virtual std::chrono::system_clock::time_point system_now() noexcept = 0;
  virtual std::uint64_t random() noexcept = 0;

  /// Says that the calling thread is about to wait for a notify() of `on`; from here on one counts.
  virtual void prepare_wait(const void* on, Time deadline) noexcept = 0;
  /// Waits as prepared. False if the deadline passed.
  virtual bool wait() noexcept = 0;
  virtual void notify(const void* on, bool all) noexcept = 0;

  /// A thread is about to be started; it begins with enter() and ends with leave().
  virtual StrandPtr spawn() = 0;
  virtual void enter(const StrandPtr& strand) noexcept = 0;
  virtual void leave() noexcept = 0;
  /// Waits for leave().
  virtual void join(const StrandPtr& strand) noexcept = 0;

  /// Others may go on first.
  virtual void yield() noexcept = 0;
  virtual void crash_point(std::string_view name) = 0;

  /// That of the calling thread; null: it belongs to none.
  static Runtime* current() noexcept;

 protected:
  /// Makes the calling thread belong to `runtime`, or to none.
  static void set_current(Runtime* runtime) noexcept;
};

/// Whether there ever was a simulation in this process.
extern std::atomic<bool> simulated;

/// That of the calling thread; null, and at no cost, in a program.
inline Runtime* simulation() noexcept {
  if (!simulated.load(std::memory_order_relaxed)) [[likely]] {
    return nullptr;
  }
  return Runtime::current();
}

/// std::chrono::steady_clock, or that of the simulation.
struct SteadyClock {
  using duration = std::chrono::steady_clock::duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr bool is_steady = true;
  static time_point now() noexcept {
    if (Runtime* runtime = simulation()) return runtime->steady_now();
    return std::chrono::steady_clock::now();
  }
};

/// std::chrono::system_clock, or that of the simulation: it may jump.
struct SystemClock {
  using duration = std::chrono::system_clock::duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::system_clock::time_point;
  static constexpr bool is_steady = false;
  static time_point now() noexcept {
    if (Runtime* runtime = simulation()) return runtime->system_now();
    return std::chrono::system_clock::now();
  }
};

/// A number to begin a generator with.
std::uint64_t random_seed();
/// Of a generator that was begun with as much chance as an id of 128 bits has.
std::uint64_t random_bits();

/// An instant at which the end of the process would leave work half done. Does nothing, but in a
/// simulation, where it may be the last that the server hears of this worker.
inline void crash_point(std::string_view name) {
  if (Runtime* runtime = simulation()) runtime->crash_point(name);
}

/// For what stands in for the world in simulations: here others may go on first.
inline void yield() noexcept {
  if (Runtime* runtime = simulation()) runtime->yield();
}

/// A condition variable. Std is std::condition_variable, or with stop tokens
/// std::condition_variable_any.
template <class Std>
class BasicCondition final {
 public:
  using Time = Runtime::Time;
  using Lock = std::unique_lock<std::mutex>;

  void notify_one() noexcept {
    if (Runtime* runtime = runtime_.load(std::memory_order_acquire)) runtime->notify(this, false);
    std_.notify_one();
  }
  void notify_all() noexcept {
    if (Runtime* runtime = runtime_.load(std::memory_order_acquire)) runtime->notify(this, true);
    std_.notify_all();
  }

  void wait(Lock& lock) {
    if (Runtime* runtime = simulation()) {
      simulated_wait(*runtime, lock, Time::max());
    } else {
      std_.wait(lock);
    }
  }
  template <class Predicate>
  void wait(Lock& lock, Predicate predicate) {
    while (!predicate()) wait(lock);
  }

  std::cv_status wait_until(Lock& lock, Time deadline) {
    if (Runtime* runtime = simulation()) return simulated_wait(*runtime, lock, deadline);
    return std_.wait_until(lock, deadline);
  }
  template <class Predicate>
  bool wait_until(Lock& lock, Time deadline, Predicate predicate) {
    while (!predicate()) {
      if (wait_until(lock, deadline) == std::cv_status::timeout) return predicate();
    }
    return true;
  }
  template <class Rep, class Period>
  std::cv_status wait_for(Lock& lock, std::chrono::duration<Rep, Period> time) {
    return wait_until(lock, SteadyClock::now() + time);
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> time, Predicate predicate) {
    return wait_until(lock, SteadyClock::now() + time, std::move(predicate));
  }

  // With a stop token: they end also when a stop is requested, and return what the predicate says.

  template <class Predicate>
  bool wait(Lock& lock, const std::stop_token& stop, Predicate predicate) {
    if (Runtime* runtime = simulation()) {
      return simulated_wait(*runtime, lock, stop, Time::max(), predicate);
    }
    return std_.wait(lock, stop, predicate);
  }
  template <class Predicate>
  bool wait_until(Lock& lock, const std::stop_token& stop, Time deadline, Predicate predicate) {
    if (Runtime* runtime = simulation()) {
      return simulated_wait(*runtime, lock, stop, deadline, predicate);
    }
    return std_.wait_until(lock, stop, deadline, predicate);
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, const std::stop_token& stop, std::chrono::duration<Rep, Period> time,
                Predicate predicate) {
    return wait_until(lock, stop, SteadyClock::now() + time, std::move(predicate));
  }

 private:
  std::cv_status simulated_wait(Runtime& runtime, Lock& lock, Time deadline) {
    runtime_.store(&runtime, std::memory_order_release);
    runtime.prepare_wait(this, deadline);
    lock.unlock();
    const bool notified = runtime.wait();
    lock.lock();
    return notified ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Predicate>
  bool simulated_wait(Runtime& runtime, Lock& lock, const std::stop_token& stop, Time deadline,
                      Predicate& predicate) {
    const std::stop_callback wake(stop, [this] { notify_all(); });
    while (!predicate()) {
      if (stop.stop_requested()) return false;
      if (simulated_wait(runtime, lock, deadline) == std::cv_status::timeout) return predicate();
    }
    return true;
  }

  Std std_;
  std::atomic<Runtime*> runtime_ = nullptr;  ///< of the threads that wait, if it is a simulation
};

using Condition = BasicCondition<std::condition_variable>;
using StopCondition = BasicCondition<std::condition_variable_any>;

/// As std::jthread: asked to stop, and waited for, when it is destroyed.
class Thread final {
 public:
  Thread() noexcept = default;
  template <class Body>
  requires(!std::is_same_v<std::remove_cvref_t<Body>, Thread>) explicit Thread(Body&& body) {
    Runtime* const runtime = simulation();
    if (runtime == nullptr) {
      thread_ = std::jthread(std::forward<Body>(body));
      return;
    }
    runtime_ = runtime;
    strand_ = runtime->spawn();
    thread_ = std::jthread(
        [runtime, strand = strand_,
         owned = std::decay_t<Body>(std::forward<Body>(body))](std::stop_token stop) mutable {
          runtime->enter(strand);
          {
            auto run = std::move(owned);  // with what it holds, it ends before the thread leaves
            if constexpr (std::is_invocable_v<std::decay_t<Body>&, std::stop_token>) {
              run(std::move(stop));
            } else {
              run();
            }
          }
          runtime->leave();
        });
  }
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&& other) noexcept {
    if (this == &other) return *this;
    end();
    thread_ = std::move(other.thread_);
    runtime_ = std::exchange(other.runtime_, nullptr);
    strand_ = std::move(other.strand_);
    return *this;
  }
  ~Thread() { end(); }

  bool joinable() const noexcept { return thread_.joinable(); }
  bool request_stop() noexcept { return thread_.request_stop(); }
  void join() {
    if (runtime_ != nullptr && simulation() == runtime_) runtime_->join(strand_);
    thread_.join();
  }

 private:
  void end() noexcept {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    join();
  }

  std::jthread thread_;
  Runtime* runtime_ = nullptr;
  Runtime::StrandPtr strand_;
};

/// A number of things to be waited for. Thread-safe.
class Countdown final {
 public:
  explicit Countdown(std::size_t count) : left_(count) {}

  void count_down() {
    const std::lock_guard lock(mutex_);
    if (--left_ == 0) changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  Condition changed_;
  std::size_t left_;
};

/// A value that another thread brings. Thread-safe; one brings it, one takes it, and both hold a
/// reference while they do.
template <class T>
class Promised final {
 public:
  void put(T value) {
    {
      const std::lock_guard lock(mutex_);
      value_.emplace(std::move(value));
    }
    changed_.notify_all();
  }
  /// Waits for it.
  T take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }

 private:
  std::mutex mutex_;
  Condition changed_;
  std::optional<T> value_;
};

/// What a function returns that runs on a thread of its own, as of std::async; ending it waits for
/// that. One thread.
template <class T>
class Async final {
 public:
  Async() = default;
  template <class Function>
  explicit Async(Function function) : end_(std::make_shared<End>()) {
    thread_ = Thread([end = end_, run = std::move(function)]() mutable {
      try {
        end->value.emplace(run());
      } catch (...) {
        end->failure = std::current_exception();
      }
      end->ready = true;
    });
  }

  /// It was begun, and get() was not called yet.
  bool valid() const noexcept { return end_ != nullptr; }
  /// get() need not wait.
  bool ready() const noexcept { return end_->ready; }
  /// Waits for it. Throws what the function threw.
  T get() {
    thread_.join();
    const auto end = std::exchange(end_, nullptr);
    if (end->failure) std::rethrow_exception(end->failure);
    return std::move(*end->value);
  }

 private:
  struct End {
    std::optional<T> value;
    std::exception_ptr failure;
    std::atomic<bool> ready = false;
  };
  std::shared_ptr<End> end_;
  Thread thread_;
};

}  // namespace dmm::internal
