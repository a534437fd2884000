#pragma once

// A Life is a worker of a simulation from its beginning to its end: a program with a connection, a
// bucket and threads of its own. When it is killed, nothing that it does arrives any more, its runs
// end, and what is left of its threads ends without being heard of.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "dmm/bucket.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/scheduler.h"
#include "dmm/testing/memory_server.h"
#include "dmm/testing/memory_transport.h"
#include "tests/simulation/bugs.h"

namespace dmm::simulation {

/// Lets what is started meanwhile belong to a group.
class Membership final {
 public:
  Membership(testing::Scheduler& scheduler, testing::Scheduler::Group group)
      : scheduler_(scheduler), before_(scheduler.group()) {
    scheduler_.set_group(group);
  }
  ~Membership() { scheduler_.set_group(before_); }
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;

 private:
  testing::Scheduler& scheduler_;
  const testing::Scheduler::Group before_;
};

class Life final {
 public:
  /// number   of all lives, from 0; its group is one more.
  Life(testing::Scheduler& scheduler, const testing::MemoryServer& server, std::uint32_t number,
       std::uint64_t seed, const Logger& logger, Bug bug, const ViewSnapshots& snapshots);
  ~Life();

  std::uint32_t number() const noexcept { return number_; }
  testing::Scheduler::Group group() const noexcept { return number_ + 1; }
  Bucket& bucket() noexcept { return *bucket_; }
  testing::Faults& faults() noexcept { return memory_->faults(); }

  /// Begins to work, when all is registered.
  void begin();
  /// Ends as by SIGTERM, and waits.
  void stop();
  /// Ends as by SIGKILL, as the server sees it. By any thread; does not wait.
  void kill();
  /// Behind kill(): waits for the threads.
  void bury();

  bool killed() const noexcept { return killed_; }
  /// What work() threw; empty: nothing.
  const std::string& failure() const noexcept { return failure_; }

  /// For the work of a run: waits so long. False if it was killed, or asked to stop, meanwhile.
  bool work_for(std::chrono::milliseconds time, const std::stop_token& stop);

 private:
  testing::Scheduler& scheduler_;
  const std::uint32_t number_;
  std::shared_ptr<testing::MemoryTransport> memory_;
  std::optional<Bucket> bucket_;
  bool killed_ = false;
  std::string failure_;
  std::mutex mutex_;
  internal::StopCondition ended_;
  std::optional<internal::Thread> thread_;
};

}  // namespace dmm::simulation
