#pragma once

// What the processes of the scene do until they get SIGTERM.

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "tests/nemesis/options.h"

namespace dmm::nemesis {

/// SIGTERM as something to wait for. Made before any thread, which all inherit the mask.
class Ending final {
 public:
  Ending();
  /// True if it came within `time`.
  bool wait(std::chrono::nanoseconds time) const;

 private:
  sigset_t signals_{};
};

/// Works the type of the scene, and writes down each run.
int play_worker(const Role& role, const Ending& ending);

/// Notifies its share of the identities with ever newer news, and writes down what was
/// acknowledged.
int play_notifier(const Role& role, const Ending& ending);

/// Where the processes leave what they did.
std::string runs_file(const std::string& directory, std::uint32_t life);
std::string notified_file(const std::string& directory, std::uint32_t notifier);
std::string world_file(const std::string& directory);

}  // namespace dmm::nemesis
