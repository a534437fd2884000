#pragma once

#include <chrono>
#include <random>

namespace dmm::worker {

/// The wait before the next attempt: uniform in [0, min(longest, first * 2^(failures - 1))], "full
/// jitter", so that what failed together is not tried together.
/// failures   from 1.
/// source     M. Brooker, "Exponential Backoff And Jitter" (2015).
std::chrono::milliseconds backoff(int failures, std::chrono::milliseconds first,
                                  std::chrono::milliseconds longest, std::mt19937_64& random);

}  // namespace dmm::worker
