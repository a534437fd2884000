#pragma once

// A Board is a page of memory that a process under measurement shares with the one that measures:
// it says where it is without being asked, so that it can be frozen at any time.

#include <atomic>
#include <cstdint>
#include <filesystem>

namespace dmm::bench {

/// Written by the process under measurement; times are of the machine's monotonic clock.
struct Board {
  std::atomic<std::int64_t> begun_ns;   ///< it began to read
  std::atomic<std::int64_t> loaded_ns;  ///< the view has compared its rows with the cache
  std::atomic<std::uint64_t> taken;     ///< messages read, or changes taken into the view
  std::atomic<std::uint64_t> notified;  ///< tokens stored
  std::atomic<std::uint64_t> sending;   ///< notifies that are not confirmed yet
  std::atomic<std::uint64_t> rows;      ///< of the view
  std::atomic<std::uint64_t> rebuilds;  ///< more than 1: it has begun anew
  std::atomic<std::uint64_t> restored;  ///< rows of inputs that came from a snapshot
  std::atomic<std::uint64_t> stall_us;  ///< how long the last snapshot held up everything else
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

 private:
  Board* board_ = nullptr;
};

std::int64_t monotonic_ns();

}  // namespace dmm::bench
