#pragma once

// A run loop at work on streams in memory, and what tests ask of it.

#include "dmm/worker/run_loop.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dmm/json.h"
#include "dmm/testing/wait_for.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::Call;
using testing::wait_for;

inline const Identity kPlayer{"player", "kitchen"};

// Matters that no test here needs.
class NoMatters final : public Matters {
 public:
  nlohmann::json matter(const Identity&) override { return nullptr; }
  void notify(const Identity&, const nlohmann::json&) override {}
  void poke(const Identity&) override {}
  const std::string& type_name(std::type_index) const override { return name_; }

 private:
  const std::string name_ = "player";
};

// What a handler saw when it ran.
struct Seen {
  std::string id;
  std::string cache;
  bool deleted = false;
};

// A run loop at work on streams in memory.
struct Worker : testing::MemoryNamespace {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Seen> seen;
  std::atomic<bool> holding = false;  // handlers wait while this is set
  std::atomic<int> inside = 0;
  std::atomic<int> inside_most = 0;
  std::function<Outcome(Context&, nlohmann::json&)> then = [](Context&, nlohmann::json&) {
    return Outcome::done();
  };
  NoMatters matters;
  std::unique_ptr<RunLoop> loop;
  std::jthread thread;

  void start(WorkOptions options = {}) {
    const AnyMaterializer materializer{
        [this](Context& context, nlohmann::json& value) { return handle(context, value); }};
    loop = std::make_unique<RunLoop>(streams, matters, "player", materializer, options);
    thread = std::jthread([this](const std::stop_token& stop) { loop->work(stop); });
    wait_for("the lease", [&] { return loop->stats().holds_lease; });
  }
  ~Worker() {
    release();
    cache->let_go(Call::last);
  }
  Outcome handle(Context& context, nlohmann::json& value) {
    const int now = ++inside;
    if (now > inside_most) inside_most = now;
    std::unique_lock lock(mutex);
    seen.push_back({context.identity().id, value.dump(), context.deleted()});
    changed.wait(lock, [&] { return !holding; });
    lock.unlock();
    --inside;
    return then(context, value);
  }
  void release() {
    const std::lock_guard lock(mutex);
    holding = false;
    changed.notify_all();
  }
  // Lets a time go by in which something must not happen.
  void wait_past(std::chrono::milliseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    wait_for("the time", [&] { return std::chrono::steady_clock::now() > until; });
  }
  std::size_t runs() {
    const std::lock_guard lock(mutex);
    return seen.size();
  }
  Seen run(std::size_t number) {
    const std::lock_guard lock(mutex);
    return seen.at(number);
  }

  std::string token_subject() const { return streams.names.token_subject(kPlayer); }
  std::string entry_subject() const { return streams.names.entry_subject(key_of(kPlayer)); }
  Sequence put_token(std::string news, transport::Headers headers = {}) {
    return work->put(token_subject(), std::move(news), std::move(headers));
  }
  bool done() const { return !work->look(token_subject()); }
  std::string entry() const {
    const auto message = cache->look(entry_subject());
    return message ? message->payload : "";
  }
};

// Other workers, of which only the heartbeats are played, however slow the machine is.
class Others final {
 public:
  Others(Worker& worker, std::vector<std::string> holders)
      : thread_([&worker, holders = std::move(holders)](const std::stop_token& stop) {
          std::mutex mutex;
          std::condition_variable_any beat;
          std::unique_lock lock(mutex);
          do {
            for (const std::string& holder : holders) {
              worker.leases->put(worker.streams.names.seat_subject("player", holder),
                                 to_text({holder}));
            }
          } while (!beat.wait_for(lock, stop, 500ms, [&] { return stop.stop_requested(); }));
        }) {}

 private:
  std::jthread thread_;
};

}  // namespace dmm::worker
