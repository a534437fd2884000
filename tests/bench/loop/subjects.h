#pragma once

// The processes that are measured: each reads the reports of the fleet and writes on its board.

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

#include "dmm/testing/child_process.h"
#include "tests/bench/loop/board.h"

namespace dmm::bench {

inline constexpr const char* kViewName = "loop";
inline constexpr const char* kReportKind = "player";
inline constexpr const char* kRowType = "player";

/// What a process is told to be.
struct Role {
  std::string name;    ///< "view" or "bare"
  std::string server;  ///< URL
  std::string ns;
  std::filesystem::path board;
  bool and_cache = false;  ///< bare: read the cache behind the reports
  std::string snapshots;   ///< view: where it keeps them; empty: none
};

/// The body of a process under measurement; returns after SIGTERM.
int play(const Role& role);

/// A process of this program in a role. Used by one thread, which has to outlive it.
class Subject final {
 public:
  explicit Subject(Role role);
  /// Ends it by SIGTERM: a view gives its lease back.
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  const Board* operator->() const noexcept { return board_.operator->(); }
  void freeze();
  void thaw();
  /// Looks every half millisecond until `done`. Returns the time that it took from `begun_ns`.
  /// Throws if the process ends, or after `patience`.
  std::chrono::duration<double> wait(const char* what, std::int64_t begun_ns,
                                     const std::function<bool(const Board&)>& done,
                                     std::chrono::seconds patience = std::chrono::seconds(300));
  /// User and system time so far.
  std::chrono::duration<double> cpu() const;
  /// The most memory that it has had, in bytes.
  std::uint64_t peak_bytes() const;
  void stop();

 private:
  Role role_;
  SharedBoard board_;
  testing::ChildProcess process_;
};

/// User and system time of a process, to the nanosecond.
std::chrono::duration<double> exact_cpu_time(pid_t pid);

}  // namespace dmm::bench
