#include "dmm/worker/report_toll.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>

#include "dmm/limits.h"
#include "dmm/worker/backoff.h"

namespace dmm::worker {

namespace {

std::int64_t unix_ms(ReportToll::Time time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

/// Until `pause` after the end. A clock that was set back since then does not make it longer.
std::chrono::milliseconds left(const internal::ReportEnd& end, std::chrono::milliseconds pause,
                               ReportToll::Time now) {
  const std::chrono::milliseconds since(unix_ms(now) - end.at);
  return since.count() < 0 || since >= pause ? std::chrono::milliseconds(0) : pause - since;
}

}  // namespace

ReportToll::ReportToll(internal::ReportEnds ends) : ends_(std::move(ends)) {
  while (ends_.size() > limits::report_toll_max) ends_.erase(std::prev(ends_.end()));
  for (auto& [device, end] : ends_) end.count = std::min(end.count, limits::crashes_max);
}

const internal::ReportEnd* ReportToll::find(std::string_view device) const {
  const auto found = ends_.find(device);
  return found == ends_.end() ? nullptr : &found->second;
}

int ReportToll::count(std::string_view device) const {
  const internal::ReportEnd* const end = find(device);
  return end == nullptr ? 0 : end->count;
}

void ReportToll::note_end(std::string_view device, Time now) {
  if (ends_.size() >= limits::report_toll_max && find(device) == nullptr) {
    ends_.erase(std::ranges::min_element(
        ends_, {}, [](const auto& one) { return std::tuple(one.second.count, one.second.at); }));
  }
  internal::ReportEnd& end = ends_[std::string(device)];
  end.count = std::min(end.count + 1, limits::crashes_max);
  end.at = unix_ms(now);
}

void ReportToll::clear(std::string_view device) {
  const auto found = ends_.find(device);
  if (found != ends_.end()) ends_.erase(found);
}

std::chrono::milliseconds ReportToll::wait(std::string_view device, Time now) const {
  const internal::ReportEnd* const end = find(device);
  if (end == nullptr || end->count >= limits::crashes_max) return {};
  return left(*end, longest_backoff(end->count, limits::backoff_first, limits::backoff_max), now);
}

bool ReportToll::refuses(std::string_view device, Time now) const {
  const internal::ReportEnd* const end = find(device);
  return end != nullptr && end->count >= limits::crashes_max &&
         left(*end, limits::backoff_max, now).count() > 0;
}

}  // namespace dmm::worker
