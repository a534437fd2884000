#pragma once

// A History is what a run of the nemesis leaves behind: what was notified and acknowledged, which
// runs there were, what the cache held, and what befell whom. The checkers are functions of it.
//
// All times are of the machine's monotonic clock, which the processes of one machine share.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dmm::nemesis {

using Nanoseconds = std::int64_t;

inline constexpr Nanoseconds kMillisecond = 1'000'000;
inline constexpr Nanoseconds kSecond = 1'000'000'000;

inline Nanoseconds now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// ---- the names of the scene

inline constexpr const char* kNamespace = "nemesis";
inline constexpr const char* kType = "device";

/// Identities are numbered from 0; this is the id of one.
std::string id_of(std::uint32_t identity);
/// The number behind an id, or -1.
std::int64_t number_of(std::string_view id);
/// The lane of an identity: what one lease covers never cuts through one.
std::uint32_t lane_of(std::uint32_t identity);

// ---- what happened

/// A notify that returned without an error. News of an identity are numbered from 1 in the order in
/// which they are notified.
struct Notified {
  Nanoseconds at = 0;
  std::uint32_t identity = 0;
  std::uint64_t news = 0;
};

/// One call of materialize.
struct Run {
  std::uint32_t identity = 0;
  std::uint64_t news = 0;
  std::uint32_t life = 0;  ///< of the worker, an index of History::lives
  std::uint64_t epoch = 0;
  Nanoseconds begin = 0;
  Nanoseconds end = 0;  ///< 0: cut off, or still going on
  bool succeeded = false;
};

/// A time during which a process was stopped by SIGSTOP.
struct Pause {
  Nanoseconds begin = 0;
  Nanoseconds end = 0;  ///< 0: to the end of the life
};

/// A worker process from its start to its end.
struct Life {
  std::string worker;
  Nanoseconds begin = 0;
  Nanoseconds end = 0;  ///< when it was known to be dead; 0: it outlived the history
  std::vector<Pause> pauses = {};
};

/// A cache entry as the server stored it.
struct Entry {
  std::uint64_t revision = 0;
  std::uint32_t identity = 0;
  std::uint64_t news = 0;
  std::uint64_t epoch = 0;  ///< of the writer's lease; 0 if it did not say
  Nanoseconds at = 0;       ///< when it was seen
};

/// Faults that came close together, so that one waits for the end of all of them.
struct Volley {
  Nanoseconds first = 0;  ///< the first fault
  Nanoseconds last = 0;   ///< the last fault; where the server was away, its return
  bool server = false;    ///< the server, or a node of it, was hit
  /// A path was made slow, not cut: nothing is to be taken over. Or the machine stood still.
  bool slow = false;
};

struct History {
  std::vector<Notified> notified;
  std::vector<Run> runs;
  std::vector<Life> lives;
  std::vector<Entry> entries;
  std::vector<Volley> volleys;
};

/// Ends the runs that were cut off with the end of their worker, and puts everything in order of
/// time. What is read from files goes through this before it is checked.
void put_in_order(History& history);

}  // namespace dmm::nemesis
