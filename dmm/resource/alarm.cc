#include "dmm/resource/alarm.h"

namespace dmm::resource::internal {

Alarm::Setting::Setting(Alarm& alarm, Clock::time_point time, std::stop_source source)
    : alarm_(alarm) {
  const std::lock_guard lock(alarm_.mutex_);
  key_ = {time, ++alarm_.settings_};
  alarm_.set_.emplace(key_, std::move(source));
  if (!alarm_.thread_.joinable()) {
    alarm_.thread_ =
        std::jthread([&alarm = alarm_](const std::stop_token& stop) { alarm.run(stop); });
  }
  alarm_.changed_.notify_one();
}

Alarm::Setting::~Setting() {
  const std::lock_guard lock(alarm_.mutex_);
  alarm_.set_.erase(key_);
}

void Alarm::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (set_.empty()) {
      changed_.wait(lock, stop, [this] { return !set_.empty(); });
      continue;
    }
    const auto first = set_.begin();
    const Clock::time_point time = first->first.first;
    if (Clock::now() < time) {
      changed_.wait_until(lock, stop, time,
                          [&] { return set_.empty() || set_.begin()->first.first < time; });
      continue;
    }
    std::stop_source source = std::move(first->second);
    set_.erase(first);
    lock.unlock();  // what the user does at a stop may end a setting
    source.request_stop();
    lock.lock();
  }
}

}  // namespace dmm::resource::internal
