#include "dmm/testing/crash_points.h"

#include <array>

namespace dmm::testing {

std::span<const std::string_view> crash_points() noexcept {
  static constexpr std::array<std::string_view, 16> kPoints = {
      "a run returned",    "approves removals", "begins with lanes", "compared the caches",
      "deleted a token",   "gives a lane",      "gives a lease",     "handled a report",
      "parks an identity", "put a run off",     "rewrote an entry",  "stored an entry",
      "stores a cursor",   "told a row",        "took a lane",       "took a lease",
  };
  return kPoints;
}

}  // namespace dmm::testing
