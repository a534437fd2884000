#include "tests/simulation/life.h"

#include "dmm/testing/internal/backstage.h"

namespace dmm::simulation {

using std::chrono::milliseconds;

Life::Life(testing::Scheduler& scheduler, const testing::MemoryServer& server, std::uint32_t number,
           std::uint64_t seed, const Logger& logger, Bug bug, const ViewSnapshots& snapshots)
    : scheduler_(scheduler), number_(number) {
  const Membership membership(scheduler_, group());
  memory_ = server.connect(seed);
  bucket_ = Bucket::open(
      "sim", {.logger = logger, .snapshots = snapshots, .transport = with_bug(memory_, bug)});
  // As on a wire.
  memory_->faults().delay({}, milliseconds(3));
}

Life::~Life() {
  thread_.reset();
}

void Life::begin() {
  const Membership membership(scheduler_, group());
  thread_.emplace([this](const std::stop_token& stop) {
    try {
      bucket_->work(stop);
    } catch (const std::exception& error) {
      if (!killed_) failure_ = error.what();
    }
  });
}

void Life::stop() {
  thread_.reset();
}

void Life::kill() {
  if (std::exchange(killed_, true)) return;
  testing::Backstage::of(*memory_).sever();
  ended_.notify_all();
}

void Life::bury() {
  memory_->close();
  thread_.reset();
}

bool Life::work_for(milliseconds time, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, stop, time, [this] { return killed_; });
  return !killed_ && !stop.stop_requested();
}

}  // namespace dmm::simulation
