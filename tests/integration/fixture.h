#pragma once

// What the integration tests share: a server of their own, buckets on it, a worker in this process
// or in one that can be killed, and journals that say which runs there were.

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"
#include "raw_client.h"

namespace dmm::integration {

using namespace std::chrono_literals;
using json = nlohmann::json;
using testing::becomes_true;
using testing::wait_for;

inline constexpr const char* kNamespace = "test";
/// The type that all tests register.
inline constexpr const char* kType = "thing";

inline Identity thing(std::string id) {
  return Identity{kType, std::move(id)};
}

/// Options under which a failing identity is tried again within milliseconds.
WorkOptions quick();

/// Opens the namespace of the tests on a server. DMM_TEST_LOG=1 shows what dmm logs.
Bucket open_bucket(const testing::NatsServer& server, ViewSnapshots snapshots = {});

/// A door that runs wait at. Thread-safe.
class Gate final {
 public:
  void open();
  void close();
  /// Returns when the gate is open, and after 60 s, so that a broken test ends.
  void pass();
  /// The same, and returns false as soon as `stop` is requested.
  bool pass(std::stop_token stop);

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool open_ = false;
};

/// One call of materialize.
struct Run {
  std::string id;
  json cache;  ///< as it was given
  int attempt = 0;
  bool deleted = false;
  std::uint64_t epoch = 0;
  pid_t pid = 0;
  std::int64_t start_ns = 0;  ///< of the machine's monotonic clock
  std::int64_t end_ns = 0;    ///< 0: it has not ended

  std::chrono::milliseconds length() const {
    return std::chrono::milliseconds((end_ns - start_ns) / 1'000'000);
  }
};

std::int64_t monotonic_ns();

/// The most runs that were going on at one time; a run without an end lasts until `now_ns`.
std::size_t most_at_once(const std::vector<Run>& runs);

/// The runs of a worker in this process. Thread-safe.
class Journal final {
 public:
  using Materialize = std::function<Outcome(Context&, json&)>;

  /// A materializer that notes each run, and then does what `inner` does.
  AnyMaterializer noting(Materialize inner);
  /// The same, for one that always succeeds and changes nothing.
  AnyMaterializer noting();

  std::vector<Run> runs() const;
  std::vector<Run> runs(std::string_view id) const;
  std::size_t count(std::string_view id) const { return runs(id).size(); }

 private:
  std::size_t begin(Context& context, const json& cache);
  void end(std::size_t index);

  mutable std::mutex mutex_;
  std::vector<Run> runs_;
};

/// Bucket::work on a thread. What it threw is told by error() after stop().
class Worker final {
 public:
  explicit Worker(Bucket& bucket);
  ~Worker() { stop(); }
  void stop();
  const std::string& error() const noexcept { return error_; }

 private:
  std::string error_;
  std::jthread thread_;
};

/// A process that works the type "thing" as the caches say, see test_worker.cc.
class WorkerProcess final {
 public:
  /// journal   file to which it appends its runs; several workers may share one.
  WorkerProcess(const testing::NatsServer& server, std::filesystem::path journal,
                std::vector<std::string> options = {});

  testing::ChildProcess& process() noexcept { return process_; }
  pid_t pid() const noexcept { return process_.pid(); }
  void kill() {
    process_.kill(SIGKILL);
    process_.wait(10s);
  }

 private:
  testing::ChildProcess process_;
};

/// What WorkerProcess wrote: runs of materialize, or calls of the observe handler.
std::vector<Run> read_runs(const std::filesystem::path& journal, std::string_view event = "run");
std::vector<Run> read_runs_of(const std::filesystem::path& journal, std::string_view id);

/// Everything known of an identity; throws if there is nothing.
Matter look(Bucket& bucket, const Identity& identity);
Phase phase(Bucket& bucket, const Identity& identity);
/// The stored entry as JSON; null if there is none or it is no JSON.
json stored(Bucket& bucket, const Identity& identity);
/// True if no token waits and "value" of the stored entry is `value`: for the entries of
/// WorkerProcess, which adds who ran.
bool settled_with(Bucket& bucket, const Identity& identity, const json& value);
/// True if no token waits and the stored entry is `value`.
bool settled_on(Bucket& bucket, const Identity& identity, const json& value);
/// Waits for settled_on, and says what it saw instead.
void wait_settled_on(Bucket& bucket, const Identity& identity, const json& value,
                     std::chrono::milliseconds deadline = 10s);
/// Waits until no work stream holds a token. What is settled may still have one for a moment: the
/// worker deletes it after the entry, and an entry that another client writes in between loses
/// against it.
void wait_tokens_deleted(Bucket& bucket);
/// Notifies another identity and waits for its run: work that was there before it has begun.
void pass_barrier(Bucket& bucket, const Journal& journal);

/// The code of the Error that a call throws ("DMM-0201"), "none" if it does not throw, and the
/// text of any other exception.
std::string code_of(const std::function<void()>& call);

/// Subjects and stream of the namespace of the tests.
wire::Names names();

}  // namespace dmm::integration
