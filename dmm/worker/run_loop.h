#pragma once

// The run loop: does the work of one type, as far as its lanes are this worker's (see LaneLeases).
//
// One owner at a time holds all state: the caller of work(), or while that waits the thread that
// brings it something (see Mailbox). The reader, the answers of the server and the finished runs
// all come through the mailbox. Handlers run on a pool.
//
// The life of an identity: a token arrives -> ready -> (entry read) -> running -> storing -> its
// token is deleted -> forgotten. A failure leads to waiting and from there to ready again, giving
// up to parked. A newer token that arrives on the way waits in `token` and makes the identity ready
// again when the present one is through. A run that found its device offline waits as a failed one
// does, and the next report of the device (see ReportWaits) makes it ready. Nothing that is paused
// is begun: the queue of a paused type stands, a paused identity waits in `held_`.
//
// One reader reads the tokens of all lanes, and what is another worker's is dropped on arrival: on
// nats-server 2.9 a reader for each lane is thirty times as slow (docs/decisions/0013). A lane that
// comes is read from the start, by a new reader; of what was known, nothing is newer. A lane that
// others should have takes no more tokens, ends what is running, and goes.
//
// Invariants
//  1. An identity is in at most one of reading, running, storing; so two runs never overlap.
//  2. A token is deleted only by its sequence, and only after its run succeeded and what the run
//     changed was stored.
//  3. Nothing is stored or begun unless the lane is held; what belongs to a lane that was lost is
//     dropped (the identity's round is compared), as what belongs to a lost history (the tenure).

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/internal/streams.h"
#include "dmm/materializer.h"
#include "dmm/work_stream.h"
#include "dmm/worker/crash_toll.h"
#include "dmm/worker/entry_store.h"
#include "dmm/worker/failing_share.h"
#include "dmm/worker/fresh_news.h"
#include "dmm/worker/lane_leases.h"
#include "dmm/worker/mailbox.h"
#include "dmm/worker/pace.h"
#include "dmm/worker/ready_queue.h"
#include "dmm/worker/report_waits.h"
#include "dmm/worker/resync.h"
#include "dmm/worker/run.h"
#include "dmm/worker/run_pool.h"
#include "dmm/worker/slots.h"
#include "dmm/worker/status_store.h"
#include "dmm/worker/steering.h"
#include "dmm/worker/token.h"

namespace dmm::worker {

class RunLoop final : public WorkStream, private transport::ReaderSink {
 public:
  /// streams, matters   outlive the loop; matters serves the handlers' matter() and notify().
  /// Throws Error{invalid} DMM-0404 for options out of range.
  RunLoop(const internal::Streams& streams, Matters& matters, std::string type,
          AnyMaterializer materializer, WorkOptions options);
  ~RunLoop() override;

  const std::string& type() const noexcept override { return type_; }
  void work(std::stop_token stop) override;
  WorkStats stats() const override;
  /// Those of the runs, as far as handlers give them back. Any thread.
  const std::shared_ptr<Slots>& run_slots() const noexcept { return run_slots_; }

 private:
  using Clock = internal::SteadyClock;
  using Timers = std::multimap<Clock::time_point, std::function<void()>>;
  using Timer = std::optional<Timers::iterator>;  ///< none: not set, or fired

  /// How long after an unanswered request it is made again.
  static constexpr std::chrono::milliseconds kTroubleDelay{500};

  enum class State : std::uint8_t { fresh, ready, reading, running, storing, waiting, parked };

  /// One execution of a handler.
  struct Run {
    std::uint32_t lane = 0;
    RunInput input;
    RunResult result;
    std::stop_source stop;
    std::chrono::milliseconds timeout{};
    bool timed_out = false;
    std::atomic<bool> cancelled = false;
    Timer deadline;
    std::atomic<Clock::time_point> started{};  ///< by its thread; zero while it stands in line
    Clock::duration took{};
  };

  struct Item {
    std::string key;
    std::uint32_t lane = 0;
    State state = State::fresh;
    Sequence newest;             ///< token seen
    std::optional<Token> token;  ///< newest token that was not begun
    bool loaded = true;          ///< `token` holds its news; false: read it again first
    int attempts = 0;            ///< failed, on the present news
    int crashes = 0;             ///< workers that ended while they ran the present news
    int named = 0;               ///< so many of them said that it was this run
    std::string crash_signal;    ///< of the last of them, if that said so
    Timer timer;                 ///< while waiting
    std::uint64_t round = 0;     ///< counts beginnings: an answer belongs to one of them
    bool perhaps_done = false;   ///< its entry was written without an answer: that tells
    bool writing = false;        ///< a write of its entry or token is not answered yet
    bool abandoned = false;      ///< its run or write is of a lane or a history that was lost
    bool backlog = false;        ///< `token` waited when the lane came, with many others

    // Of the token that is being worked on.
    Token current;
    bool entry_known = false;
    std::uint64_t connection = 0;         ///< reconnects when the entry was that of the server
    std::optional<std::uint64_t> losses;  ///< of the namespace, then
    bool rewritten = false;
    bool marked = false;  ///< status says that a run is under way
    Entry entry;
    std::shared_ptr<Run> run;
    std::optional<RunResult> result;  ///< waits for the entry
  };
  using ItemPtr = std::shared_ptr<Item>;

  struct Lane {
    Epoch epoch;
    bool ours = false;
    bool taken_over = false;         ///< its holder before did not give it: it may still write
    LastWords last_words;            ///< of the holder before
    bool blamed = false;             ///< they were put down to an identity
    bool caught_up = false;          ///< every token that was there when it came was read
    bool leaving = false;            ///< others should have it
    std::vector<ItemPtr> finishing;  ///< while leaving: what is on its way to or from a run
  };

  // ReaderSink
  void on_message(transport::Message message) noexcept override;
  void on_caught_up() noexcept override;
  void on_history_lost(std::string reason) noexcept override;

  // The owner's loop.
  void reset();
  void turn(bool may_begin);
  Clock::time_point advance();
  void recover_history();
  void follow_connection();
  bool went_back(const transport::Message& message);
  void follow_statuses();
  /// True if the lane is this worker's, and cannot be another's.
  bool counts_on(std::uint32_t lane) const {
    return lanes_[lane].ours && leases_.held(lane, lanes_[lane].epoch);
  }
  void follow_losses();
  std::optional<std::uint64_t> losses_known() const;
  void forget_history(const std::string& reason, std::size_t dropped);
  void take_arrived();
  void fire_timers();
  void finish_work();
  bool quiet() const;
  void cancel_runs();
  void cancel_doubted_runs();
  void publish_stats();
  void count_more();
  void recount();
  std::size_t slots() const;

  // The lanes.
  void follow_lanes();
  void take_lane(std::uint32_t number, const Tenure& tenure);
  void begin_lanes();
  void load_entries(const transport::StreamState& work);
  void read_from_start();
  void follow_backlog();
  void drop_lane(std::uint32_t number);
  void give_lanes();
  void leave_lane(std::uint32_t number);
  bool finished(std::uint32_t number);
  void give_lane(std::uint32_t number);
  void forget_lane(std::uint32_t number, bool spare_active);
  void settle_lanes(const std::vector<std::uint32_t>& numbers);
  static bool is_active(const Item& item);
  bool abandon(const ItemPtr& item);
  void ended_abandoned(const ItemPtr& item);
  bool held(const Item& item) const;
  std::size_t lanes_owned() const;
  bool all_caught_up() const;

  // What people set.
  void follow_steering();
  void follow_share();
  void say_in_force();
  void hold(const ItemPtr& item);
  void note_first_run(const Item& item, bool failed);
  void count_crashes();
  void pause_if_failing();
  Clock::time_point begin_ready(Clock::time_point now);
  bool begin_one(const ItemPtr& item, Clock::time_point now);
  std::optional<Clock::time_point> attend_alone(Clock::time_point now);
  void trust_again(const ItemPtr& item);

  // The way of an identity.
  void take_token(transport::Message message, bool fresh);
  ItemPtr item_of(const std::string& key);
  void refuse(const std::string& subject, Sequence sequence, const Error& error);
  void restore(const ItemPtr& item);
  void blame(const ItemPtr& item);
  std::chrono::milliseconds crash_backoff(int crashes);
  bool tried(const Item& item) const;
  bool waits_behind_end(const Item& item) const;
  static void begin_anew(Item& item);
  std::string run_name(const std::string& key) const;
  void enqueue(const ItemPtr& item);
  void begin(const ItemPtr& item);
  void load_token(const ItemPtr& item);
  void begin_loaded(const ItemPtr& item);
  void load_entry(const ItemPtr& item);
  void prepare(const ItemPtr& item);
  wire::Done done_before(const Token& token) const;
  void rewrite_entry(const ItemPtr& item);
  void mark_run(const ItemPtr& item);
  bool may_begin(const Item& item) const;
  void dispatch(const ItemPtr& item);
  void ran(const ItemPtr& item);
  void watch_deadline(const ItemPtr& item, const std::shared_ptr<Run>& run, Clock::duration left);
  void overdue(const ItemPtr& item, const std::shared_ptr<Run>& run);
  void finish(const ItemPtr& item);
  void store(const ItemPtr& item, std::optional<std::string> value);
  void stored(const ItemPtr& item, Entry entry, const Result<Sequence>& result);
  void conclude(const ItemPtr& item);
  void requeue(const ItemPtr& item);
  void wait_for_report(const ItemPtr& item);
  void heard_of_device(const std::string& key);
  void leave(const ItemPtr& item);
  void fail(const ItemPtr& item, std::string_view error_code, const std::string& error);
  void park(const ItemPtr& item, std::string_view error_code, const std::string& error);
  void again_soon(const ItemPtr& item, std::chrono::milliseconds delay);
  void put_back(const ItemPtr& item);
  void wait(const ItemPtr& item, Clock::duration delay);
  void put_status(const ItemPtr& item, std::string_view phase, std::string_view error_code,
                  const std::string& error, std::chrono::milliseconds retry_in);
  internal::Status status_of(const Item& item, std::string_view phase, std::string_view error_code,
                             const std::string& error) const;

  void erase_token(const Item& item);
  void pump_erases();
  void send_erase(Sequence sequence, std::uint32_t lane);
  Timers::iterator later(Clock::duration delay, std::function<void()> task);
  void cancel(Timer& timer);
  /// Wraps `task` so that the owner runs it if the tenure has not ended meanwhile, and the item is
  /// still in the round in which it asked.
  template <class Task>
  auto in_round(const ItemPtr& item, Task task);
  void write(const ItemPtr& item, transport::Stream& stream, transport::Publication publication,
             std::chrono::milliseconds deadline, std::function<void(const Result<Sequence>&)> task);
  bool give_back(const ItemPtr& item);

  const internal::Streams& streams_;
  Matters& matters_;
  const std::string type_;
  const AnyMaterializer materializer_;
  const WorkOptions declared_;  ///< by the program
  WorkOptions options_;         ///< with the policy of the namespace laid over

  Mailbox mailbox_;
  std::mutex arrived_mutex_;
  // What the reader brought, guarded by arrived_mutex_. A loss of history lies before the messages.
  std::vector<transport::Message> arrived_;
  std::optional<std::string> history_loss_;
  std::size_t dropped_ = 0;                ///< messages that were void before they were taken
  std::atomic<std::uint64_t> reading_{0};  ///< counts readers

  std::mutex running_mutex_;
  std::unordered_set<std::shared_ptr<Run>> running_;  ///< on a thread; guarded by running_mutex_

  LaneLeases leases_;
  std::array<Lane, limits::lanes> lanes_;
  std::vector<std::uint32_t> to_begin_;  ///< lanes that came and are not ours yet
  Clock::time_point next_begin_;  ///< no earlier, so that lanes that come apart come together
  bool lanes_leave_ = false;      ///< some do
  bool counted_on_ = false;       ///< the lanes could be counted on at the last turn
  std::unique_ptr<transport::Reader> reader_;
  std::unique_ptr<FreshNews> fresh_;               ///< while `reader_` works through a backlog
  std::unique_ptr<StatusReading> status_reading_;  ///< behind a reconnect
  std::uint64_t tenure_ = 0;
  bool begins_ = false;              ///< new runs may begin
  bool stopping_ = false;            ///< what has not begun to run is given back
  bool history_lost_ = false;        ///< the owner thread has to look
  Clock::time_point next_recovery_;  ///< no earlier, however often it is woken
  bool tokens_lost_ = false;         ///< statuses whose tokens are gone may speak of lost ones
  bool read_again_ = false;          ///< from the start, once the history is known
  Sequence read_to_;                 ///< of all tokens that were read, the highest
  std::chrono::system_clock::time_point read_to_at_;  ///< and when the latest was stored
  std::uint64_t reconnects_ = 0;                      ///< of the connection when reading began
  std::optional<std::uint64_t> losses_;               ///< of the namespace, as far as was followed
  std::string created_;                               ///< of the work stream

  std::unordered_map<std::string, ItemPtr> items_;
  ReadyQueue<ItemPtr> ready_;
  std::size_t ready_bytes_ = 0;
  std::vector<ItemPtr> suspended_;  ///< finished, but the lease was not held
  std::size_t busy_ = 0;            ///< slots taken: reading or running
  Clock::duration usual_run_{};     ///< moving average of how long a run takes
  ItemPtr alone_;                   ///< runs with no other beside it
  Clock::time_point alone_since_;
  Clock::time_point next_alone_;       ///< no earlier: others have their time, too
  Clock::time_point wait_alone_till_;  ///< zero: nobody waits for the others to end
  std::size_t writing_ = 0;            ///< items
  std::size_t overdue_ = 0;            ///< of busy_: runs that did not return in their time
  std::size_t consumed_ = 0;           ///< read since the last grant
  EntryStore entries_;
  StatusStore statuses_;
  ReportWaits report_waits_;
  Steering steering_;
  Pace pace_;
  FailingShare failing_;
  CrashToll toll_;  ///< of the type, when lanes came last
  bool was_paused_ = false;
  Policy said_in_force_;
  std::string unsound_;  ///< why the policy cannot be used; empty: it can
  Resync resync_;
  std::unordered_map<std::string, ItemPtr> held_;  ///< paused by themselves, by key

  std::deque<std::pair<Sequence, std::uint32_t>> to_erase_;  ///< and their lanes
  /// The same, to be tried again in a while.
  std::vector<std::pair<Sequence, std::uint32_t>> erase_again_;
  std::array<std::atomic<std::size_t>, limits::lanes> unerased_{};
  std::atomic<std::size_t> erasing_ = 0;
  std::atomic<bool> erases_wait_ = false;  ///< to_erase_ has more than may be under way

  Timers timers_;
  std::mt19937_64 random_;

  const std::shared_ptr<Slots> run_slots_;  ///< a scrape of metrics may hold it, too
  WorkStats stats_;
  Clock::time_point next_recount_;
  mutable std::mutex published_mutex_;
  WorkStats published_;

  std::unique_ptr<RunPool> pool_;  ///< last: its threads end first
};

template <class Task>
auto RunLoop::in_round(const ItemPtr& item, Task task) {
  return
      [this, item, tenure = tenure_, round = item->round, task = std::move(task)](auto&& result) {
        using Value = std::decay_t<decltype(result)>;
        auto shared = std::make_shared<Value>(std::forward<decltype(result)>(result));
        mailbox_.post([item, this, tenure, round, task, shared] {
          if (tenure == tenure_ && round == item->round) task(std::move(*shared));
        });
      };
}

}  // namespace dmm::worker
