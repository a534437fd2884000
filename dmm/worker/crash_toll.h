#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <vector>

#include "dmm/internal/status.h"
#include "dmm/limits.h"
#include "dmm/transport/stream.h"

namespace dmm::worker {

/// How many workers ended while they ran identities of a type, as far as its statuses prove it.
///
/// Who ends with a worker need not have ended it: runs that went on beside the culprit are counted
/// in their statuses as well. So as long as identities run beside others, the most that one of them
/// saw stands for all. Behind that each runs alone, and every end is one more. So is every end that
/// a worker put down to one run in its last words.
class CrashToll final {
 public:
  /// Earlier ends than this before the last one say nothing of what works now.
  static constexpr std::chrono::hours kTogether{1};

  /// False if a status of this text need not be added.
  static bool tells(std::string_view status) {
    return status.find("\"crashes\":0") == std::string_view::npos;
  }
  void add(const internal::Status& status, const transport::Message& message) {
    if (status.crashes > 0)
      crashed_.push_back({message.sequence, message.stored_at, status.crashes, status.named});
  }
  /// Of statuses that were stored behind `after`.
  std::size_t ends(Sequence after) const {
    std::chrono::system_clock::time_point last;
    for (const Crashed& one : crashed_) last = std::max(last, one.stored_at);
    std::size_t alone = 0;
    int together = 0;
    for (const Crashed& one : crashed_) {
      if (one.sequence <= after || one.stored_at < last - kTogether) continue;
      const int named = std::min(one.named, one.crashes);
      const int suspected = std::min(one.crashes - named, limits::crashes_max);
      const int beside = std::min(suspected, kBeside);
      together = std::max(together, beside);
      alone += static_cast<std::size_t>(named + suspected - beside);
    }
    return alone + static_cast<std::size_t>(together);
  }

 private:
  /// With so many behind it an identity may have run beside others each time.
  static constexpr int kBeside = limits::crashes_shared + 1;
  struct Crashed {
    Sequence sequence;
    std::chrono::system_clock::time_point stored_at;
    int crashes;
    int named;
  };
  std::vector<Crashed> crashed_;
};

}  // namespace dmm::worker
