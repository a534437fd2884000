#pragma once

// An Alarm asks works to stop when their own time is over. Thread-safe; one thread, begun when it
// is first set.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

namespace dmm::resource::internal {

class Alarm final {
 public:
  using Clock = std::chrono::steady_clock;

  Alarm() = default;
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  /// Asks `source` to stop at `time`, unless this ends before.
  class Setting {
   public:
    Setting(Alarm& alarm, Clock::time_point time, std::stop_source source);
    ~Setting();
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

   private:
    Alarm& alarm_;
    std::pair<Clock::time_point, std::uint64_t> key_;
  };

 private:
  void run(const std::stop_token& stop);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t settings_ = 0;
  std::map<std::pair<Clock::time_point, std::uint64_t>, std::stop_source> set_;
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace dmm::resource::internal
