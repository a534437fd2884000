#pragma once

#include <chrono>
#include <string_view>

#include "dmm/internal/status.h"

namespace dmm::worker {

/// Workers that said in their last words (last_words.h) that they ended in a report of a device.
/// Counted is the device, by its encoded name: it may report the same again before anybody looks.
/// Lies in the cursor of the kind. See docs/decisions/0036-reports-that-end-workers.md. One thread.
class ReportToll final {
 public:
  using Time = std::chrono::system_clock::time_point;

  ReportToll() = default;
  /// ends   as somebody stored them; only their types were checked.
  explicit ReportToll(internal::ReportEnds ends);

  const internal::ReportEnds& ends() const noexcept { return ends_; }
  int count(std::string_view device) const;

  void note_end(std::string_view device, Time now);
  /// A report of the device was handled, well or not: it ended nobody.
  void clear(std::string_view device);

  /// How long nothing of the device is to be handled, as after failures; zero: it may be.
  std::chrono::milliseconds wait(std::string_view device, Time now) const;
  /// Whether it has ended so many that its reports are refused; for limits::backoff_max after the
  /// last one, then one is tried.
  bool refuses(std::string_view device, Time now) const;

 private:
  const internal::ReportEnd* find(std::string_view device) const;

  internal::ReportEnds ends_;
};

}  // namespace dmm::worker
