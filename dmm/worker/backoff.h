#pragma once

#include <chrono>
#include <random>

namespace dmm::worker {

/// The longest wait before the next attempt: min(longest, first * 2^(failures - 1)).
/// failures   from 1.
std::chrono::milliseconds longest_backoff(int failures, std::chrono::milliseconds first,
                                          std::chrono::milliseconds longest);

/// The wait before the next attempt: uniform in [0, longest_backoff()], "full jitter", so that what
/// failed together is not tried together.
/// source     M. Brooker, "Exponential Backoff And Jitter" (2015).
std::chrono::milliseconds backoff(int failures, std::chrono::milliseconds first,
                                  std::chrono::milliseconds longest, std::mt19937_64& random);

}  // namespace dmm::worker
