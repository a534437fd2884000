#pragma once

// The files in which processes that may be killed at any moment keep what they did: lines of text,
// each written whole by one write(2), which a kill -9 cannot take back.

#include <atomic>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/nemesis/history.h"

namespace dmm::nemesis {

/// Appends to a file. Thread-safe.
class Journal final {
 public:
  /// Throws std::runtime_error if it cannot be opened.
  explicit Journal(const std::filesystem::path& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// text   whole lines. Throws std::runtime_error if they cannot be written.
  void append(std::string_view text);

 private:
  int fd_;
};

/// What a worker writes: a line when a run begins and one when it ends.
class RunJournal final {
 public:
  explicit RunJournal(const std::filesystem::path& path) : journal_(path) {}
  /// Returns the name of the run for ended().
  std::uint64_t begun(std::uint32_t identity, std::uint64_t news, std::uint64_t epoch,
                      Nanoseconds at);
  void ended(std::uint64_t run, bool succeeded);

 private:
  Journal journal_;
  std::atomic<std::uint64_t> next_{1};
};

/// The lines for notifies that were acknowledged at one time.
std::string lines_of(std::span<const Notified> notified);

/// Reads what lines_of() made. A last line that is not whole is left out; anything else that does
/// not fit throws std::runtime_error.
std::vector<Notified> read_notified(const std::filesystem::path& path);

/// Reads the journal of a worker's life.
std::vector<Run> read_runs(const std::filesystem::path& path, std::uint32_t life);

}  // namespace dmm::nemesis
