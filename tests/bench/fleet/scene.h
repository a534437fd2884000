#pragma once

// A server of its own, workers that are started again when they end, and whoever brings news. One
// thread, with whose end the processes end.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/temporary_directory.h"
#include "tests/bench/fleet/board.h"
#include "tests/bench/fleet/worker.h"

namespace dmm::bench {

class Scene final {
 public:
  Scene();
  ~Scene();
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  Bucket& bucket() noexcept { return *bucket_; }
  Board& board() noexcept { return **board_; }

  void start_workers(std::size_t count);
  /// Starts those again that have ended. How many ended since start_workers().
  std::size_t look_around();
  /// The most memory that any worker had at any time, in bytes.
  std::uint64_t peak_bytes();
  std::vector<pid_t> workers() const;

  /// Brings ordinary news to identities "<prefix>0" to "<prefix><of - 1>" in turn, `rate` a second,
  /// as long as `goes_on` returns true. Looks around meanwhile, and does `beside` before each.
  void bring(
      const std::string& prefix, std::size_t of, double rate, const std::function<bool()>& goes_on,
      const std::function<void()>& beside = [] {});
  /// The same for a time.
  void bring_for(
      const std::string& prefix, std::size_t of, double rate, std::chrono::milliseconds time,
      const std::function<void()>& beside = [] {});

  std::uint64_t tokens();
  /// Waits until at most `left` tokens lie in the work stream, looking around. Throws after
  /// `deadline`.
  void wait_for_tokens(std::uint64_t left, std::chrono::seconds deadline);

 private:
  std::unique_ptr<testing::ChildProcess> start() const;

  testing::NatsServer server_;
  testing::TemporaryDirectory directory_;
  std::unique_ptr<Bucket> bucket_;
  std::unique_ptr<SharedBoard> board_;
  std::vector<std::unique_ptr<testing::ChildProcess>> workers_;
  std::size_t ended_ = 0;
  std::uint64_t peak_bytes_ = 0;
  std::uint64_t brought_ = 0;
};

/// A line of /proc/PID/status, in kB or as a count; 0 if there is none.
std::uint64_t status_of_process(pid_t pid, const std::string& name);

}  // namespace dmm::bench
