#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "dmm/cli/terminal.h"

namespace dmm::cli {

/// A line on standard error that tells how far something has come. Shows nothing unless a person
/// looks at it. Not thread-safe.
class Progress final {
 public:
  /// label   what is counted: "reports".
  /// total   of the measure that update() is told; 0: not known.
  Progress(Terminal terminal, std::string label, std::uint64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Takes the line away.
  ~Progress();

  /// done   things counted; `part` of `total`.
  void update(std::uint64_t done, std::uint64_t failed, std::uint64_t part);
  /// Takes the line away, so that something else can be written; the next update brings it back.
  void clear() noexcept;

 private:
  Terminal terminal_;
  std::string label_;
  std::uint64_t total_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace dmm::cli
