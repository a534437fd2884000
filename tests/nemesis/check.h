#pragma once

// The checkers: functions of a history that put_in_order() has seen. They know the promises and
// nothing of how the history was made, so that they can be tried on histories written by hand.

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "tests/nemesis/history.h"

namespace dmm::nemesis {

/// Violations of one promise.
struct Findings {
  std::size_t count = 0;
  std::vector<std::string> examples = {};  ///< the first few, for a person
};

/// How long a worker may be stopped without having to fear for its lease: its last beat is up to a
/// beat old when it is stopped, and it gives up a margin early.
inline constexpr std::chrono::milliseconds kHarmlessPause{1'500};

/// Acknowledged notifies that no successful run saw, nor any newer of their identity.
Findings find_lost(const History& history);

/// Acknowledged identities whose last cache entry is of older news than the newest acknowledged.
Findings find_behind(const History& history);

/// Pairs of runs of one identity that went on at one time. Where a worker was stopped in the middle
/// of a run for longer than kHarmlessPause, that run may meet one of a later epoch: its lease was
/// not kept.
Findings find_overlaps(const History& history);

/// Runs that began although a run of a later epoch had begun in their lane. A worker that was
/// stopped past its lease may have had up to `concurrency` runs between its last look at the lease
/// and their first line.
Findings find_zombies(const History& history, std::size_t concurrency);

/// Cache entries that went back: to older news, or to a writer with an older epoch, which should
/// have been refused.
Findings find_stale_writes(const History& history);

/// How long work stood still after each volley, in the order of History::volleys: the longest time
/// in which a lane with outstanding work began no run, counted from the last fault of the volley.
std::vector<Nanoseconds> recoveries(const History& history);

}  // namespace dmm::nemesis
