#pragma once

// A lease: exclusive, expiring, fenced ownership of a name. See docs/concepts.md, "Leases".
//
// Epoch n+1 of a name is taken by writing the first message on dmm.<ns>.lease.<name>.<n+1>; the
// server lets exactly one writer be first. The message names the holder, whose heartbeats lie on
// dmm.<ns>.beat.<holder>. No clock is shared: a challenger takes the next epoch when the newest
// epoch's holder has released it, when it has seen no new beat of that holder for a whole TTL of
// its own monotonic clock, or when it knows that the holder's process has ended (life_locks.h).
//
// The holder counts from the moment it sent the last beat that was answered, and stops
// limits::lease_margin before a challenger could count to the end.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "dmm/internal/runtime.h"
#include "dmm/internal/streams.h"
#include "dmm/limits.h"
#include "dmm/types.h"
#include "dmm/worker/life_locks.h"

namespace dmm::worker {

struct LeaseTiming {
  std::chrono::milliseconds ttl = limits::lease_ttl;
  std::chrono::milliseconds beat = limits::lease_beat;
  std::chrono::milliseconds margin = limits::lease_margin;
  std::chrono::milliseconds poll = limits::lease_poll;
};

/// How an epoch was come by.
struct Tenure {
  Epoch epoch;
  /// Nobody else held it since this lease object lost it: what was begun then may be finished.
  bool continued = false;
  /// The holder before did not release it: it may be a zombie that still writes.
  bool taken_over = false;
  /// For a group: the last epoch that was not the group's. The same for all in it.
  Epoch before_group;
  /// In which run the process of the holder before ended, if that is known.
  LastWords last_words = {};
};

/// What wire::unique_id() may give, and the names of groups.
bool is_holder(std::string_view text);

/// A message of a lease or of a seat.
struct LeaseRecord {
  std::string holder;
  bool released = false;   ///< the holder gave it up
  bool unsettled = false;  ///< but what one before it left without a word was not all done
  std::string words_of{};  ///< that one, if its last words are still to be heard
};
/// Anything may lie there: what names nobody is held by "", who never beats.
LeaseRecord read_lease_record(std::string_view text);
/// The epoch at the end of a lease's subject; none if there is none that was ever given.
std::optional<Epoch> epoch_in(std::string_view subject);
std::string to_text(const LeaseRecord& record);

/// Not thread-safe, but for held() and epoch(), which any thread may ask. Beats on a thread of its
/// own, so that nothing the work does can delay them.
class Lease {
 public:
  /// name      without the epoch, for example "work.player.all".
  /// on_lost   called on the beat thread when the lease can no longer be counted on. Must not
  /// block.
  /// group     not empty: held by all who name the same group, against everyone else. It is not
  ///           released, because others of the group may go on.
  Lease(const internal::Streams& streams, std::string name, std::function<void()> on_lost,
        LeaseTiming timing = LeaseTiming(), std::string group = {});
  /// Releases if held.
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  /// Epochs up to this one are not used: they may have been before the stream lost its history. Not
  /// while it is held.
  void set_floor(Epoch floor) noexcept { floor_ = floor; }

  /// Waits until the lease is held, or `stop`. Nothing if stopped.
  /// stands_by   set to whether another holder is known to live: false until it has given a sign of
  ///             life, and again when the lease is held.
  std::optional<Tenure> acquire(const std::stop_token& stop,
                                std::atomic<bool>* stands_by = nullptr);

  /// Gives it up so that another can take it at once. After the work has ended.
  void release() noexcept;

  /// True while no other can hold it.
  bool held() const noexcept;
  /// For how long that will be so, if no beat is answered any more; not above zero: it is not held.
  std::chrono::nanoseconds left() const noexcept;
  Epoch epoch() const noexcept { return Epoch{epoch_.load(std::memory_order_relaxed)}; }

 private:
  /// What lies in the stream for the newest epoch.
  struct Record {
    Epoch epoch;
    std::string holder;
    bool released = false;
    Epoch before_group;
  };
  /// What was seen of the present holder, and since when nothing new was.
  struct Watched {
    std::string holder;
    Epoch epoch;
    Sequence beat;
    internal::SteadyClock::time_point silent_since = internal::SteadyClock::now();
    std::optional<internal::SteadyClock::time_point> gone_since;  ///< what was there before
  };
  bool is_nobodys(Watched& watched, internal::SteadyClock::time_point looked_at) const;
  bool shows_life(const Record& found, Watched& watched);
  void hold(Epoch epoch, internal::SteadyClock::time_point asked_at);
  std::optional<Record> newest();
  Epoch floor() const;
  bool knows_past();
  Sequence last_beat_of(const std::string& holder);
  bool take(Epoch epoch, const std::string& record);
  bool is_newest(Epoch epoch);
  void say_alive(std::chrono::milliseconds deadline);
  bool wait(const std::stop_token& stop, std::chrono::milliseconds time);
  void start_beating();
  void stop_beating() noexcept;
  void beat(const std::stop_token& stop);
  bool newest_is_ours();
  std::string record(Epoch before_group) const;
  void forget_older(Epoch epoch);
  const internal::Streams& streams_;
  const std::string name_;
  const std::function<void()> on_lost_;
  const LeaseTiming timing_;
  const bool shared_;
  const std::string holder_;
  const LifeLocks::Lock life_;

  Epoch floor_;
  std::atomic<std::uint64_t> epoch_{0};
  /// Steady-clock nanoseconds until which the lease is ours; 0 if not held.
  std::atomic<std::int64_t> valid_until_{0};
  std::mutex mutex_;
  internal::StopCondition changed_;
  internal::Thread beat_thread_;
};

}  // namespace dmm::worker
