#include "dmm/worker/backoff.h"

#include <algorithm>
#include <cstdint>

namespace dmm::worker {

std::chrono::milliseconds longest_backoff(int failures, std::chrono::milliseconds first,
                                          std::chrono::milliseconds longest) {
  std::int64_t ceiling = std::max<std::int64_t>(first.count(), 1);
  for (int i = 1; i < failures && ceiling < longest.count(); ++i) ceiling *= 2;
  return std::chrono::milliseconds(std::min<std::int64_t>(ceiling, longest.count()));
}

std::chrono::milliseconds backoff(int failures, std::chrono::milliseconds first,
                                  std::chrono::milliseconds longest, std::mt19937_64& random) {
  const auto ceiling = longest_backoff(failures, first, longest).count();
  return std::chrono::milliseconds(std::uniform_int_distribution<std::int64_t>(0, ceiling)(random));
}

}  // namespace dmm::worker
