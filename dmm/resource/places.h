#pragma once

// The Places of a kind: how many of its controllers work at a time in this process, and how many
// resources may be claimed beside those that are worked. Thread-safe.
//
// A run is admitted before it claims its resource, and takes a place while its controller works.
// Where works are short, more are admitted than there are places: while one works, the claims and
// results of others are on their way to the database. Where they are not, the database is waited
// for in no time, and a resource that is claimed would wait for its place instead, and count as one
// that was lost in a crash.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <stop_token>

#include "dmm/limits.h"

namespace dmm::resource::internal {

/// How many are claimed ahead at most, if the program does not say: for a work of no time at all,
/// claim and result take several times as long.
inline std::size_t usual_ahead(std::size_t places) {
  constexpr std::size_t kRunsMax = 1'024;  // of a type, see WorkOptions
  const std::size_t most = kRunsMax - std::min(places, kRunsMax);
  return std::min(most,
                  std::clamp(4 * places, limits::resource_ahead_min, limits::resource_ahead_max));
}

class Places {
 public:
  using Clock = std::chrono::steady_clock;

  /// ahead   admitted beside the places; nothing: as works take their time.
  Places(std::size_t places, std::optional<std::size_t> ahead)
      : places_(places),
        ahead_(ahead.value_or(usual_ahead(places))),
        always_(ahead.has_value()),
        free_(places) {}
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  /// From before the claim until the result is stored; none if stopped.
  class Admission {
   public:
    Admission(Places& places, const std::stop_token& stop) : places_(places) {
      const auto begun = Clock::now();
      std::unique_lock lock(places_.mutex_);
      admitted_ = places_.left_.wait(lock, stop,
                                     [this] { return places_.admitted_ < places_.admissible(); });
      if (admitted_) ++places_.admitted_;
      waited_ = Clock::now() - begun;
    }
    ~Admission() {
      if (!admitted_) return;
      {
        const std::lock_guard lock(places_.mutex_);
        --places_.admitted_;
      }
      places_.left_.notify_one();
    }
    Admission(const Admission&) = delete;
    Admission& operator=(const Admission&) = delete;
    bool admitted() const noexcept { return admitted_; }
    Clock::duration waited() const noexcept { return waited_; }

   private:
    Places& places_;
    bool admitted_ = false;
    Clock::duration waited_{};
  };

  /// While the controller works; none if stopped before one was free.
  class Place {
   public:
    Place(Places& places, const std::stop_token& stop) : places_(places) {
      std::unique_lock lock(places_.mutex_);
      if (!places_.freed_.wait(lock, stop, [this] { return places_.free_ > 0; })) return;
      --places_.free_;
      taken_ = true;
      begun_ = Clock::now();
    }
    ~Place() {
      if (taken_) places_.give_back(Clock::now() - begun_);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    bool taken() const noexcept { return taken_; }

   private:
    Places& places_;
    bool taken_ = false;
    Clock::time_point begun_;
  };

 private:
  /// With the lock.
  std::size_t admissible() const {
    const bool quick = usual_ && *usual_ < limits::resource_quick_work;
    return places_ + (always_ || quick ? ahead_ : 0);
  }

  void give_back(Clock::duration took) {
    bool more = false;
    {
      const std::lock_guard lock(mutex_);
      ++free_;
      const std::size_t before = admissible();
      usual_ = usual_ ? (*usual_ * 7 + took) / 8 : took;
      more = admissible() > before;
    }
    freed_.notify_one();
    if (more) left_.notify_all();
  }

  const std::size_t places_;
  const std::size_t ahead_;
  const bool always_;
  std::mutex mutex_;
  std::condition_variable_any freed_;
  std::condition_variable_any left_;
  std::size_t free_;
  std::size_t admitted_ = 0;
  std::optional<Clock::duration> usual_;  ///< moving average of a work
};

}  // namespace dmm::resource::internal
