#pragma once

#include <sys/types.h>

#include <chrono>

namespace dmm::bench {

/// User and system time of a process and all its threads so far, from /proc/PID/stat. Counted in
/// clock ticks of 10 ms. Throws std::runtime_error if there is no such process.
std::chrono::duration<double> cpu_time(pid_t pid);

}  // namespace dmm::bench
