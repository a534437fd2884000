#pragma once

// The lanes of one type that this worker owns. See docs/concepts.md, "Lanes".
//
// A worker that lives says so on a seat of the type, every second; the message is written on the
// condition that the one before is still there, so a stream that was lost is noticed at the next
// beat. Each lane is a lease: its next epoch belongs to whoever writes it first, once its holder
// has released it or was silent for a TTL. All lanes of a worker hang on its one beat: they can be
// counted on until limits::lease_margin before a TTL has passed since the last beat that was
// answered was sent. Once that was missed, no lane is ever counted on again without a new epoch.
//
// The type as a whole is leased by the group of these workers, against workers of the form in which
// one lease stood for all lanes: either kind waits for the other.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/internal/streams.h"
#include "dmm/limits.h"
#include "dmm/worker/lane_table.h"
#include "dmm/worker/lease.h"
#include "dmm/worker/life_locks.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// How a lane was come by, or that it was lost.
struct LaneChange {
  std::uint32_t lane = 0;
  std::optional<Tenure> taken;  ///< none: lost, someone else may own it
};

/// Thread-safe. Works on a thread of its own, so that nothing the work does can delay a beat.
class LaneLeases final : private transport::ReaderSink {
 public:
  /// changed   called on any thread when there are changes, the lanes can no longer be counted on,
  ///           or the share is another one. Must not block.
  /// doubted   called on a thread that waits for nothing else, at once when one or all of the lanes
  ///           can no longer be counted on: what works on them has to stop. Must not block.
  LaneLeases(const internal::Streams& streams, std::string type, std::function<void()> changed,
             std::function<void()> doubted, LeaseTiming timing = LeaseTiming());
  /// Gives all back.
  ~LaneLeases() override;

  void start();
  /// Gives all back so that others can take it at once. After the work has ended.
  void stop() noexcept;

  /// What changed since the last call, in order.
  std::vector<LaneChange> changes();

  /// True while what this worker owns cannot be another's.
  bool held() const noexcept;
  /// True while nobody else can own the lane, and it was not lost and taken again since `epoch`.
  bool held(std::uint32_t lane, Epoch epoch) const noexcept {
    return epochs_[lane].load(std::memory_order_acquire) == epoch.value && held();
  }
  /// Lanes that are this worker's by right.
  std::size_t share() const noexcept { return share_.load(std::memory_order_relaxed); }
  /// True while share() is known to count the workers that live.
  bool joined() const noexcept { return joined_.load(std::memory_order_relaxed) && held(); }
  /// Throws what the thread ended with, if something did that cannot heal by itself.
  void check() const;
  /// What somebody before may have left unfinished in a lane is done: who comes next need not mind.
  void settle(std::uint32_t lane) { unsettled_[lane] = false; }
  /// A write for the lane may be done when its next owner is there already.
  void unsettle(std::uint32_t lane) { unsettled_[lane] = true; }
  /// The last words that came with the lane have been put down to whom they concern.
  void note_heard(std::uint32_t lane) { heard_[lane] = true; }
  /// Gives one lane to those who have too few. After its work has ended.
  void release(std::uint32_t lane, Epoch epoch);

 private:
  using Clock = internal::SteadyClock;

  // ReaderSink
  void on_message(transport::Message message) noexcept override;
  void on_caught_up() noexcept override {}
  void on_complete() noexcept override;
  void on_history_lost(std::string reason) noexcept override;

  // The thread that looks at the clock only.
  void guard(const std::stop_token& stop);
  void alert();
  Clock::time_point held_until() const noexcept;

  // The thread.
  void run(const std::stop_token& stop);
  void serve(const std::stop_token& stop);
  bool join_group(const std::stop_token& stop);
  void look_at_past();
  void heed_losses();
  void doubt_all(const std::string& why);
  void turn(Clock::time_point now);
  void beat(Clock::time_point now);
  void beaten(Clock::time_point sent_at, const Result<Sequence>& result);
  void find_own_seat();
  void lapse(std::string_view why);
  void follow(const transport::Message& message);
  void look_for_dead(Clock::time_point now);
  void ask_for_suspects(Clock::time_point now);
  void say_dead(const std::string& holder);
  void take_offers();
  void read_on();
  void take(const LaneTable::Offer& offer);
  void taken(const LaneTable::Offer& offer, std::uint64_t term, const Result<Sequence>& result);
  void look_at_won();
  void own(const LaneTable::Offer& offer, Sequence message);
  void forget_epoch(std::uint32_t lane, Epoch epoch);
  void clear_seats(Clock::time_point now);
  void set_share(std::size_t share);
  void tell(LaneChange change);
  void publish_changes();
  void lose(std::uint32_t lane);
  void lose_all();
  LeaseRecord release_of(std::uint32_t lane) const;
  void leave() noexcept;
  bool owns(std::uint32_t lane) const noexcept {
    return epochs_[lane].load(std::memory_order_relaxed) != 0;
  }

  const internal::Streams& streams_;
  const std::string type_;
  const std::function<void()> changed_;
  const std::function<void()> doubted_;
  const LeaseTiming timing_;
  const std::string holder_;
  const LifeLocks::Lock life_;

  Mailbox mailbox_;
  LaneTable table_;
  Lease group_;
  std::unique_ptr<transport::Reader> reader_;
  bool read_ = false;        ///< the table knows all
  bool past_known_ = false;  ///< and its floor counts for the stream that it was read of
  std::string stream_;       ///< when that was created
  Epoch used_;  ///< the highest epoch that was known before the stream lost its history
  /// No lane is taken earlier: who owned it before that loss may not know of it yet.
  Clock::time_point next_take_;
  Sequence seat_;  ///< the message of our last beat
  bool beating_ = false;
  Clock::time_point next_beat_;
  Clock::time_point next_look_for_dead_;
  DeathWatch::Listener watch_;
  Clock::time_point next_cleaning_;
  std::uint64_t term_ = 0;  ///< counts lapses: what was asked for before one is void
  bool alive_ = false;
  std::array<Epoch, limits::lanes> owned_before_{};     ///< the epoch that a lapse ended
  std::array<bool, limits::lanes> taking_{};            ///< asked for, or won and not looked at yet
  std::array<std::string, limits::lanes> taking_from_;  ///< whose last words are asked for with it
  std::array<std::string, limits::lanes> words_of_;     ///< whose came with it
  std::size_t asked_ = 0;                               ///< takes that were not answered yet
  std::vector<std::pair<LaneTable::Offer, Sequence>> won_;  ///< written first; to be looked at
  std::array<bool, limits::lanes> told_{};  ///< the owner of the work believes it has it

  std::array<std::atomic<std::uint64_t>, limits::lanes> epochs_{};  ///< 0: not owned
  /// Steady-clock nanoseconds until which they can be counted on.
  std::atomic<std::int64_t> valid_until_{0};
  std::atomic<std::size_t> share_{0};
  std::atomic<bool> joined_{false};
  std::array<std::atomic<bool>, limits::lanes> unsettled_{};
  std::array<std::atomic<bool>, limits::lanes> heard_{};  ///< those of words_of_
  std::atomic<std::uint64_t> losses_{0};                  ///< of lanes, each or all
  std::mutex guard_mutex_;
  internal::StopCondition guard_alerted_;
  std::vector<LaneChange> untold_;
  mutable std::mutex changes_mutex_;
  std::vector<LaneChange> changes_;
  std::exception_ptr failure_;  ///< guarded by changes_mutex_
  internal::Thread guard_;
  internal::Thread thread_;  ///< last: it ends first
};

}  // namespace dmm::worker
