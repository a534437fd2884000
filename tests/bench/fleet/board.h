#pragma once

// A Board is memory that the workers under measurement share with the one that measures, so that
// nothing is lost when one of them crashes.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace dmm::bench {

inline constexpr std::size_t kSamplesMax = 1u << 20;

/// Written by the workers; times are of the machine's monotonic clock.
struct Board {
  std::atomic<std::uint64_t> runs;
  std::atomic<std::uint64_t> samples;  ///< latencies noted, also those for which there is no room
  std::atomic<std::uint32_t> latency_us[kSamplesMax];
  // Of the identity that is notified without end.
  std::atomic<std::int32_t> hot_inside;
  std::atomic<std::uint64_t> hot_runs;
  std::atomic<std::uint64_t> hot_overlaps;  ///< runs that began beside another one
  std::atomic<std::uint64_t> hot_newest;    ///< the newest news that a run was given
  std::atomic<std::uint64_t> hot_older;     ///< runs that were given older news than one before

  void note(std::int64_t latency_ns);
  /// The latencies that were noted from sample number `first` on, in milliseconds.
  std::vector<double> latencies(std::uint64_t first = 0) const;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Maps a file that holds a board; zeros if the file is new. Not copyable.
class SharedBoard final {
 public:
  /// Throws std::system_error.
  explicit SharedBoard(const std::filesystem::path& file);
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  ~SharedBoard();

  Board* operator->() const noexcept { return board_; }
  Board& operator*() const noexcept { return *board_; }

 private:
  Board* board_ = nullptr;
};

std::int64_t monotonic_ns();

}  // namespace dmm::bench
