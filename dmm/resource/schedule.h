#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/limits.h"
#include "dmm/resource/object.h"

namespace dmm::resource {

/// When something is to be done again and again. A regular value.
class Schedule {
 public:
  static Schedule never() { return Schedule(); }
  /// Each time `interval` behind the time before, however long the program was down meanwhile;
  /// plus a part of `jitter`, drawn anew, so that many schedules do not begin together.
  /// interval   zero or below: never.
  static Schedule every(std::chrono::milliseconds interval,
                        std::chrono::milliseconds jitter = limits::inform_jitter);
  /// Minute, hour, day of month, month, day of week, in UTC: "*/15 * * * *", "0 3 * * 1-5". Names
  /// of months and days are not known. Throws Error{invalid} DMM-0404 that names the field.
  static Schedule cron(std::string_view expression,
                       std::chrono::milliseconds jitter = std::chrono::milliseconds(0));
  /// Reads "never", "every 3600000" or "cron 0 3 * * *", with " jitter MS" behind it.
  static Schedule parse(std::string_view text);

  bool is_never() const noexcept { return interval_.count() == 0 && fields_.empty(); }
  /// The next time behind `last`; at once if there was none. Nothing if never.
  /// share   0 to 1: how much of the jitter is added.
  std::optional<Time> next(std::optional<Time> last, Time now, double share) const;
  std::string text() const;

 private:
  std::chrono::milliseconds interval_{0};
  std::chrono::milliseconds jitter_{0};
  std::string expression_;
  std::vector<std::uint64_t> fields_;  ///< five sets of allowed numbers as bits
  bool any_day_ = false;               ///< day of month or of week is "*": both must fit
};

}  // namespace dmm::resource
