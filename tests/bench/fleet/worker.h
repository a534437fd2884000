#pragma once

#include <string>

namespace dmm::bench {

inline constexpr const char* kNamespace = "fleet";
inline constexpr const char* kType = "item";

/// What a worker process is told.
struct Role {
  std::string server;
  std::string board;
  std::string run_directory;
};

/// Works the type until SIGTERM. What a run does stands in its news: "do" is "throw", "hang",
/// "crash" or "hot"; "at" is when they were brought. Returns the exit code.
int work(const Role& role);

}  // namespace dmm::bench
