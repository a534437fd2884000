#pragma once

// A World is all that a test of a materializer needs: a server in memory, a worker on it, and a
// hand of the test that no fault strikes.
//
//     dmm::testing::World world;
//     world.bucket().register_type<Player>("player", dmm::testing::quick());
//     world.faults().in_doubt({.share = 0.1});
//     world.work();
//     world.outside().notify({"player", "kitchen"}, {{"song", "A"}});
//     world.settle();
//
// See docs/how-to/test-a-materializer.md. Time is real, so give retries in milliseconds, as quick()
// does; or it is virtual, see WorldOptions::virtual_time.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/testing/crash_points.h"
#include "dmm/testing/faults.h"
#include "dmm/testing/memory_server.h"
#include "dmm/testing/memory_transport.h"

namespace dmm::internal {
class Thread;
}

namespace dmm::testing {

class Scheduler;

/// Options under which a failing identity is tried again within milliseconds.
WorkOptions quick();

/// A program that works: a bucket on a connection of its own, and a thread. Used by one thread at a
/// time.
class Worker final {
 public:
  /// Of World::another_worker().
  /// scheduler   null: time is real.
  /// group       of its threads.
  Worker(std::string_view ns, std::shared_ptr<MemoryTransport> memory, const Logger& logger,
         Scheduler* scheduler, std::uint32_t group);
  /// As stop(), without its errors.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Register types and observers before work().
  Bucket& bucket() noexcept { return bucket_; }
  MemoryTransport& memory() noexcept { return *memory_; }
  Faults& faults() noexcept { return memory_->faults(); }

  /// Begins Bucket::work() on a thread of its own.
  void work();
  /// Ends it as SIGTERM does, and waits. Throws what it threw.
  void stop();
  /// Ends it as SIGKILL does, as far as the server can tell: nothing that it does from now on
  /// arrives, and its leases run out. Waits for handlers that run. The bucket is closed for good.
  void crash();
  /// As crash(), but waits for nothing: any thread may call it, so a handler can end its own worker
  /// in the middle of what it does. What the handler does to dmm from then on, nobody hears.
  void kill() noexcept;
  /// It crashed, or was killed.
  bool dead() const noexcept { return crashed_ || killed_; }
  /// Throws what Bucket::work() threw, if it has ended by that.
  void check() const;

  // These need virtual time, and throw Error{invalid} DMM-0404 where it is real.

  /// kill() at the instant of that name, the n-th time that it comes there. Another name than those
  /// of crash_points() is refused with DMM-0404, too.
  void kill_at(std::string_view point, int nth = 1);
  /// Stands still for so long, as a process behind SIGSTOP or a machine that is moved. Beyond three
  /// seconds others take over; then it goes on, and does not know yet.
  void pause(std::chrono::milliseconds time);
  /// Its clock of the day jumps.
  void shift_clock(std::chrono::milliseconds by);

 private:
  friend class World;

  void reached(std::string_view point) noexcept;
  Scheduler& scheduler() const;

  std::shared_ptr<MemoryTransport> memory_;
  Scheduler* const scheduler_;
  const std::uint32_t group_;
  Bucket bucket_;
  bool crashed_ = false;
  std::atomic<bool> killed_ = false;
  std::string_view fatal_;  ///< the crash point at which it dies
  int fatal_in_ = 0;        ///< when it comes there for the n-th time
  mutable std::mutex mutex_;
  std::exception_ptr failure_;
  std::unique_ptr<internal::Thread> thread_;  ///< last: it ends first
};

struct WorldOptions {
  std::string ns = "test";
  /// Of the faults; none: DMM_SEED of the environment, else drawn.
  std::optional<std::uint64_t> seed = {};
  Logger logger = Logger();  ///< of the buckets; says nothing unless it is told to
  /// Time passes only where everybody waits, and then at once: an hour of backoff takes no longer
  /// than what happens in it. All threads of dmm run one at a time, in an order that the seed
  /// decides, so the same seed is the same run. The thread that makes the world is one of them: it
  /// lets the others work while it is in settle(), pass(), wait_for() or a call of dmm. Whatever
  /// waits by other means (sleeps, locks, threads of the test's own) takes real time, and so does
  /// what looks at std::chrono's clocks.
  bool virtual_time = false;
};

/// Used by one thread at a time. A fixture may derive from it.
class World {
 public:
  explicit World(WorldOptions options = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// The worker, and for short its bucket, its faults, and its beginning and end.
  Worker& worker() noexcept { return *workers_.front(); }
  Bucket& bucket() noexcept { return worker().bucket(); }
  Faults& faults() noexcept { return worker().faults(); }
  void work() { worker().work(); }
  void stop() { worker().stop(); }
  /// One more, which lives as long as the world. Its bucket knows no type yet.
  Worker& another_worker();

  /// A bucket that no fault strikes: for what the test itself reports, notifies and looks at.
  Bucket& outside() noexcept { return *outside_; }
  /// The server: restart it, take its history away.
  MemoryServer& server() noexcept { return server_; }
  std::uint64_t seed() const noexcept { return seed_; }

  /// Lets so much time pass. Where time is virtual that takes no longer than what happens in it.
  void pass(std::chrono::milliseconds time);
  /// Lets so much time pass, and has one fault after another strike one worker after another, as
  /// the seed decides: calls that are refused, lost, in doubt, done twice or late; readers that
  /// lag; partitions; restarts of the server; where time is virtual also workers that stand still,
  /// and clocks that jump. In the end all faults of the workers are over, those of the test as
  /// well. Kills no worker and takes nothing from the server: for these there are Worker::kill_at()
  /// and server().
  void storm(std::chrono::milliseconds time);
  /// The time, as dmm sees it.
  std::chrono::system_clock::time_point now() const;

  /// Waits until nothing moves any more: every report is handled, every view has told its rows, and
  /// no token is left but those that wait for someone. Whoever notifies or reports on and on is
  /// waited for in vain.
  /// returns   those that are left: parked, waiting for a device that is offline, or to be run
  ///           again only behind the deadline.
  /// throws    Error{retry} DMM-0103 that names what still moves, the faults and the seed, when the
  ///           deadline has passed; what a worker threw.
  std::vector<Matter> settle(std::chrono::milliseconds deadline = std::chrono::seconds(10));

 private:
  using Time = std::chrono::steady_clock::time_point;

  void strike(Worker& worker, std::mt19937_64& random, std::chrono::milliseconds time);
  void bury_the_dead();
  std::string moving(Time deadline, std::vector<Matter>& left);
  std::string observing() const;
  std::string viewing() const;
  std::string waiting(Time deadline, std::vector<Matter>& left);
  std::string running() const;
  bool rests(const Matter& matter, Time deadline) const;

  const WorldOptions options_;
  const std::uint64_t seed_;
  const std::unique_ptr<Scheduler> scheduler_;  ///< null: time is real
  MemoryServer server_;
  std::shared_ptr<MemoryTransport> hand_;
  std::optional<Bucket> outside_;
  std::uint64_t storms_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;  ///< never empty
};

}  // namespace dmm::testing
