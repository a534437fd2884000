// Goal: a pool works on with the threads that the system gives it, and does every task once.
// Method: the making of threads stands in for the system, which makes none for a while.

#include "dmm/worker/run_pool.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "dmm/testing/wait_for.h"

namespace dmm::worker {

namespace {

using namespace std::chrono_literals;

/// Makes as many threads as it is allowed to.
class System {
 public:
  RunPool::Start start() {
    return [this](std::function<void()> body) {
      if (left_ == 0) {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
      }
      --left_;
      return internal::Thread(std::move(body));
    };
  }
  void allow(int threads) { left_ = threads; }

 private:
  std::atomic<int> left_ = 0;
};

/// The messages of a logger.
class Lines {
 public:
  Logger logger() {
    return Logger(Level::debug, [this](Level, std::string_view message, const nlohmann::json&) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(message);
    });
  }
  std::vector<std::string> all() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

const std::string kMissing = "the system makes no more threads; runs share those that there are";
const std::string kBack = "there are threads for runs again";

/// Tasks that wait until they are let go.
class Tasks {
 public:
  std::function<void()> next() {
    return [this] {
      ++running_;
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return open_; });
      --running_;
      ++done_;
    };
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int running() const { return running_; }
  int done() const { return done_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::atomic<int> running_ = 0;
  std::atomic<int> done_ = 0;
};

}  // namespace

TEST_CASE("run pool: one thread does the work of four that the system does not make",
          "[run_pool][fault]") {
  System system;
  system.allow(1);
  Lines lines;
  Tasks tasks;
  {
    RunPool pool(4, lines.logger(), system.start());
    for (int i = 0; i < 20; ++i) pool.submit(tasks.next());
    testing::wait_for("a task that runs", [&] { return tasks.running() == 1; });
    CHECK(pool.refused() > 0);
    CHECK(tasks.running() == 1);
    tasks.open();
    testing::wait_for("all tasks", [&] { return tasks.done() == 20; });
  }
  CHECK(lines.all() == std::vector<std::string>{kMissing});
}

TEST_CASE("run pool: without any thread tasks wait until there is one", "[run_pool][fault]") {
  System system;
  Lines lines;
  Tasks tasks;
  RunPool pool(4, lines.logger(), system.start());
  for (int i = 0; i < 8; ++i) pool.submit(tasks.next());
  pool.look_again();
  CHECK(tasks.running() == 0);
  // It does not ask each time: making a thread in vain costs something, too.
  CHECK(pool.refused() == 1);
  system.allow(100);
  testing::wait_for("four tasks that run", [&] {
    pool.look_again();
    return tasks.running() == 4;
  });
  CHECK(lines.all() == std::vector<std::string>{kMissing, kBack});
  tasks.open();
  testing::wait_for("all tasks", [&] { return tasks.done() == 8; });
}

TEST_CASE("run pool: its end does what no thread was there for", "[run_pool][fault]") {
  System system;
  Tasks tasks;
  tasks.open();
  {
    RunPool pool(2, Logger(), system.start());
    for (int i = 0; i < 3; ++i) pool.submit(tasks.next());
    CHECK(tasks.done() == 0);
  }
  CHECK(tasks.done() == 3);
}

}  // namespace dmm::worker
