#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "dmm/durations.h"
#include "dmm/limits.h"

namespace dmm {

/// How the work of one type is done. Every field has a default; a policy that is set in the
/// namespace comes before it (dmm/control.h), but for the grace time.
struct WorkOptions {
  std::size_t concurrency = limits::concurrency;          ///< runs at a time, 1 to 1,024
  std::chrono::milliseconds timeout = limits::run_timeout;  ///< of one run
  std::chrono::milliseconds backoff_first = limits::backoff_first;
  std::chrono::milliseconds backoff_max = limits::backoff_max;
  /// Failed attempts on the same news before the identity is parked; 0 means never.
  int attempts_max = 0;
  /// How long Outcome::wait_for_report waits at most, give or take a quarter.
  std::chrono::milliseconds offline_retry = limits::offline_retry;
  std::chrono::milliseconds grace = limits::grace;  ///< for runs in flight at shutdown
  /// Runs that begin in a second, of all identities together; 0: no limit.
  double rate = 0;
  /// Least time between the beginnings of two runs of one identity.
  std::chrono::milliseconds identity_interval{0};
  /// Every identity that has a cache entry is run again this often, spread over the time; 0: never.
  std::chrono::milliseconds resync{0};
  /// The type is paused when more than this share, in percent, of the last 50 first runs of news
  /// failed; 0: never.
  int pause_at_failing = 0;
};

/// What a work stream has done since it was made, and what it holds.
struct WorkStats {
  std::uint64_t tokens = 0;      ///< read from the work stream
  std::uint64_t runs = 0;        ///< started
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;      ///< thrown or timed out
  std::uint64_t parked = 0;
  std::uint64_t coalesced = 0;   ///< news that were replaced before they ran
  std::uint64_t stored = 0;      ///< cache entries written
  std::uint64_t conflicts = 0;   ///< writes refused because someone else had written
  std::uint64_t corrupt = 0;     ///< entries that could not be read and were taken as missing
  std::uint64_t refused = 0;     ///< tokens parked because they could not be read
  std::uint64_t lease_losses = 0;
  std::uint64_t history_losses = 0;
  std::size_t ready = 0;         ///< identities waiting for a slot
  std::size_t running = 0;
  std::size_t retrying = 0;      ///< identities that are failing, parked or offline
  std::size_t offline = 0;       ///< identities that wait for the report of a device
  std::size_t held = 0;          ///< identities that are paused
  std::uint64_t resynced = 0;    ///< identities told to run by the resync
  bool paused = false;           ///< the type, or everything
  std::size_t lanes = 0;         ///< owned, of 64: how much of the type is this worker's
  bool holds_lease = false;      ///< some lanes are this worker's; false: warm standby
  std::uint64_t timed_out = 0;   ///< of the failed ones
  std::uint64_t retried = 0;     ///< of the runs, those that were not the first on their news
  std::uint64_t postponed = 0;   ///< succeeded, and asked to be run again later
  std::uint64_t unreached = 0;   ///< runs that ended because their device is offline
  std::uint64_t gave_up = 0;     ///< runs that asked to be parked, or whose cache cannot be kept
  std::uint64_t cancelled = 0;   ///< runs that were stopped and do not count: they are repeated
  Durations run_times;           ///< of the runs
  /// From the storage of news, by the clock of the server, to the success of their run. Those that
  /// were there before this worker are counted as well.
  Durations turnarounds;
  std::size_t lanes_wanted = 0;  ///< how many are this worker's by right; 0: it stands by
  std::uint64_t lane_set = 0;    ///< bit n: lane n is owned
  bool joined = false;     ///< the other workers are known, so that lanes_wanted says something
  bool caught_up = false;  ///< every token that was there when its lane came has been read
  std::size_t outstanding = 0;  ///< identities with a token in the lanes that are owned
  std::uint64_t turns = 0;      ///< of its loop, at least one a second, or it is stuck
  // Counted at most once a second, and more seldom where that takes long.
  std::size_t parked_now = 0;
  /// When the oldest of the outstanding tokens that are not parked was stored.
  std::optional<std::chrono::system_clock::time_point> oldest_token;
};

/// The stream of work of one type. Made by Bucket::register_type, owned by the bucket.
class WorkStream {
 public:
  virtual ~WorkStream() = default;

  virtual const std::string& type() const noexcept = 0;

  /// Works until `stop` is requested: shares the lanes of the type with the other workers that live,
  /// reads every outstanding token of its own, runs materialize with bounded concurrency and retries
  /// until it succeeds. More workers than lanes: the last ones stand by.
  /// At stop: no new runs, the grace time for those in flight, then their stop tokens; unfinished
  /// work stays in the stream. Called by one thread at a time; blocks.
  /// Throws Error only for what cannot heal by itself (credentials refused, no JetStream).
  virtual void work(std::stop_token stop) = 0;

  /// Any thread.
  virtual WorkStats stats() const = 0;
};

}  // namespace dmm
