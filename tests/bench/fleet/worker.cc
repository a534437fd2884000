#include "tests/bench/fleet/worker.h"

#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "dmm/bucket.h"
#include "tests/bench/fleet/board.h"

namespace dmm::bench {

namespace {

using namespace std::chrono_literals;

constexpr auto kHotRun = 5ms;

/// Lets time go by, or returns when told to stop.
void pass(std::chrono::milliseconds time, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, time, [] { return false; });
}

void crash() {
  // The pointer is volatile, too: a compiler that knows it may leave out what cannot be.
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
}

void be_hot(Board& board, Context& context, const nlohmann::json& value) {
  if (board.hot_inside.fetch_add(1) != 0) ++board.hot_overlaps;
  ++board.hot_runs;
  const auto number = value.value("number", std::uint64_t{0});
  if (number < board.hot_newest.exchange(number)) ++board.hot_older;
  pass(kHotRun, context.stop_token());
  --board.hot_inside;
}

Outcome materialize(Board& board, Context& context, const nlohmann::json& value) {
  ++board.runs;
  const std::string what = value.value("do", "");
  if (what.empty()) {
    if (const auto at = value.find("at"); at != value.end() && context.attempt() == 1) {
      board.note(monotonic_ns() - at->get<std::int64_t>());
    }
    return Outcome::done();
  }
  if (what == "throw") throw std::runtime_error("the device is on fire");
  if (what == "hang") pass(24h, {});
  if (what == "crash") crash();
  if (what == "hot") be_hot(board, context, value);
  return Outcome::done();
}

}  // namespace

int work(const Role& role) {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const SharedBoard board(role.board);
  BucketOptions options;
  options.connection.servers = {role.server};
  options.logger = Logger();
  options.run_directory = role.run_directory;
  Bucket bucket = Bucket::open(kNamespace, std::move(options));
  WorkOptions work_options;
  work_options.timeout = 2s;
  work_options.backoff_max = 10s;
  work_options.grace = 1s;
  bucket.register_type(kType, AnyMaterializer{[&board](Context& context, nlohmann::json& value) {
                         return materialize(*board, context, value);
                       }},
                       work_options);
  std::jthread work([&bucket](std::stop_token stop) { bucket.work(stop); });
  int received = 0;
  ::sigwait(&signals, &received);
  // A run that hangs is not waited for.
  ::_exit(0);
}

}  // namespace dmm::bench
