#pragma once

// The view loop: keeps one view.
//
// The caller of work() owns all state. Sources, answers of the server and the watch for orders and
// releases come through the mailbox. A tenure is: take the lease, find out which release of the
// view is to be kept, read all inputs into the engine, compare the rows with the effective caches,
// notify the difference; then, batch by batch, notify what a step changed. Whatever cannot be
// followed (history lost, another release) begins a new tenure: nothing of the engine's state is
// precious. A tenure that ends well leaves a snapshot of what it read, and so do long ones from
// time to time; the next one reads on from there (dmm/view/snapshot.h).
//
// Invariants
//  1. A token is published only while the lease is held, and one at a time for each identity; the
//     row that is told last is the newest.
//  2. `told` of a slot is what the server has confirmed, or what the cache was found to say.
//  3. No tombstone leaves before all inputs were loaded and the caches compared, nor past Removals.
//  4. A release is rolled out when all that differed from the caches was told; until then nothing
//     is told past its gate.

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/internal/streams.h"
#include "dmm/view.h"
#include "dmm/view/computation.h"
#include "dmm/view/removals.h"
#include "dmm/view/rollout.h"
#include "dmm/view/server_clock.h"
#include "dmm/view/snapshot.h"
#include "dmm/view/snapshot_file.h"
#include "dmm/view/state.h"
#include "dmm/worker/lease.h"
#include "dmm/worker/mailbox.h"

namespace dmm::view {

class ViewLoop final : public ViewStream, private transport::ReaderSink {
 public:
  /// streams   outlive the loop. Throws Error{invalid} DMM-0601, DMM-0502 for a view that cannot
  /// work.
  ViewLoop(const internal::Streams& streams, View view, ViewSnapshots snapshots = {});
  ~ViewLoop() override;

  const std::string& name() const noexcept override { return declared_.name; }
  void work(std::stop_token stop) override;
  ViewStats stats() const override;

 private:
  using Clock = internal::SteadyClock;

  // ReaderSink: orders, releases, and the status of identities while a release is rolled out.
  void on_message(transport::Message message) noexcept override;
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string reason) noexcept override;

  /// What may be otherwise at the next attempt.
  static bool may_heal(const Error& error);
  bool try_tenure();
  void begin_tenure();
  void read_clock();
  void end_tenure();
  void let_trouble_pass(const std::stop_token& stop);
  void hand_over();
  void watch_people();
  void turn();
  bool take_inputs();
  void begin_telling();
  void consider(const std::vector<std::string>& ids);
  void enqueue(const std::string& id);
  void pump();
  void tell(const std::string& id);
  void told(const std::string& id, const Result<Sequence>& result);
  void tell_failed();
  void finish_rollout();
  struct PendingOrder {
    Order order;
    Sequence sequence;
  };
  void on_order(const transport::Message& message);
  void on_token(const transport::Message& message);
  void on_state(const transport::Message& message);
  void follow(const PendingOrder& pending);
  void on_release(const transport::Message& message);
  void on_status(const std::string& key, const transport::Message& message);
  void approve(std::uint64_t removals);
  void follow_losses();
  void rebuild(const std::string& why);
  void refuse(const std::string& place, const Error& error);
  void accept(const std::string& place);
  void put_refusal(const std::string& place, transport::Headers headers, std::string value,
                   std::function<void(const Result<Sequence>&)> then);
  void forget_old_refusals();
  std::string refusal_subject(const std::string& place) const;
  SnapshotHead wanted_snapshot() const;
  void open_inputs(bool stood);
  std::string begin_with_snapshot(bool stood, const std::string& rebuilt_because);
  void take_known(SnapshotHead head);
  void compare();
  void know(KnownEntries found);
  void note_removed(const std::string& id);
  void void_snapshots();
  void save_snapshot(bool last);
  std::string snapshot(bool last);
  void save_state(bool now);
  ViewInfo present_state() const;
  void publish_stats();
  void note_step(const Advance& advance);
  void keep_trace(const std::string& id, const Rows::Slot& slot);
  void count_operators();

  const internal::Streams& streams_;
  const View declared_;  ///< by this program
  const std::string declared_hash_;
  const std::string lease_name_;
  View view_;  ///< of the release that is kept
  ViewRelease release_;
  worker::Mailbox mailbox_;

  std::unique_ptr<worker::Lease> lease_;
  std::uint64_t tenure_ = 0;
  bool rebuild_ = false;
  ServerClock clock_;
  std::optional<Computation> computation_;
  Removals removals_;
  RolloutGate gate_;
  /// Ids whose row is missing while the inputs were not complete: it may only not have come yet.
  std::unordered_set<std::string> missing_;
  std::uint64_t rolled_out_ = 0;  ///< the newest release all of whose changes were told
  bool telling_ = false;          ///< loaded and compared
  std::deque<std::string> to_tell_;
  std::size_t sending_ = 0;
  struct Failed {
    std::string id;
    bool removal = false;
  };
  std::vector<Failed> failed_;  ///< notifies that are to be told again at retry_at_
  Clock::time_point retry_at_;
  nlohmann::json baselines_;
  std::unordered_map<std::string, std::string> refused_;  ///< place to what was last said of it
  std::optional<std::uint64_t> losses_;       ///< of the namespace, as far as was followed
  std::optional<std::string> carried_doubt_;  ///< into the next tenure of the same lease
  std::optional<PendingOrder> pending_order_;

  const ViewSnapshots snapshots_;
  std::optional<KnownEntries> restored_;  ///< what a snapshot says of them, until they are compared
  std::optional<CacheMark>
      known_;  ///< entries up to here are what Slot::proven speaks of; none: no
  /// Told as removed, by this owner or one before, and their entry was there since.
  std::unordered_set<std::string> removed_;
  std::uint64_t history_ = 0;
  std::int64_t snapshot_at_ = 0;
  std::string cold_because_;
  std::string rebuilt_because_;  ///< why the tenure before ended, if the next one is to begin cold
  Clock::time_point snapshot_due_;
  std::uint64_t snapshot_work_ = 0;  ///< done when the last one was made
  std::atomic<std::uint64_t> snapshots_written_ = 0;
  std::atomic<std::uint64_t> snapshots_failed_ = 0;
  SnapshotFile snapshot_file_;  ///< its thread uses what stands before

  std::unique_ptr<transport::Reader> people_;    ///< orders, releases and the state
  std::unique_ptr<transport::Reader> tokens_;    ///< what others tell in the name of this view
  std::unique_ptr<transport::Reader> statuses_;  ///< only during a limited rollout

  Clock::time_point saved_at_{};
  std::string saved_;
  std::optional<ViewInfo> known_state_;  ///< that this owner saved last
  bool saving_ = false;
  std::atomic<std::uint64_t> heard_{0};  ///< grows when an input has something to take
  std::uint64_t heard_before_ = 0;       ///< what it was when the present turn began
  std::string step_trace_;               ///< of the present step; empty: its changes belong to none
  std::unordered_map<std::string, std::string> traces_;  ///< of rows that are to be told
  Clock::time_point operators_due_{};
  ViewStats stats_;
  std::atomic<bool> stands_by_{false};
  mutable std::mutex published_mutex_;
  ViewStats published_;
  std::optional<std::uint64_t> settled_at_;  ///< what was heard when nothing was left to do
};

}  // namespace dmm::view
