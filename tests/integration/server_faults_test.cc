// Goal: whatever befalls the server, every notified identity ends settled on its newest news.

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// Notifies identities with growing values until it is stopped, and keeps the last value of each
// that was confirmed. A notify that fails is repeated, as a caller would.
class Load final {
 public:
  Load(Bucket& bucket, int identities)
      : thread_([this, &bucket, identities](std::stop_token stop) {
          for (int value = 1; !stop.stop_requested(); ++value) {
            const std::string id = std::to_string(value % identities);
            while (!notified(bucket, id, value) && !stop.stop_requested()) {
            }
          }
        }) {}

  /// Ends the load, and returns the newest value of each identity.
  std::map<std::string, int> stop() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
    return newest_;
  }
  int confirmed() const { return confirmed_; }
  int failed() const { return failed_; }

 private:
  bool notified(Bucket& bucket, const std::string& id, int value) {
    try {
      bucket.notify(thing(id), json{{"value", value}});
      newest_[id] = value;
      ++confirmed_;
      return true;
    } catch (const Error&) {
      ++failed_;
      return false;
    }
  }

  std::map<std::string, int> newest_;
  std::atomic<int> confirmed_ = 0;
  std::atomic<int> failed_ = 0;
  std::jthread thread_;
};

void wait_all_settled(Bucket& bucket, const std::map<std::string, int>& newest,
                      std::chrono::milliseconds deadline) {
  for (const auto& [id, value] : newest) {
    wait_settled_on(bucket, thing(id), json{{"value", value}}, deadline);
  }
}

}  // namespace

TEST_CASE("server: killed under load three times it loses no news",
          "[server_faults][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  Load load(bucket, 100);
  for (int kills = 0; kills < 3; ++kills) {
    const int before = load.confirmed();
    wait_for(
        "load", [&] { return load.confirmed() > before + 500; }, 20s);
    server.kill();
    server.start();
  }
  const int before = load.confirmed();
  wait_for(
      "load after the last kill", [&] { return load.confirmed() > before + 500; }, 20s);
  const std::map<std::string, int> newest = load.stop();
  CHECK(load.failed() == 0);  // a restart is shorter than the deadline of a publish
  REQUIRE(newest.size() == 100);
  wait_all_settled(bucket, newest, 15s);
  for (const auto& [id, value] : newest) {
    const std::vector<Run> runs = journal.runs(id);
    CHECK(runs.back().cache == json{{"value", value}});
    CHECK(most_at_once(runs) == 1);
  }
  CHECK(worker.error().empty());
}

TEST_CASE("server: five restarts with one identity failing all the while stall no other",
          "[server_faults][fault][integration]") {
  const bool crash = GENERATE(false, true);
  INFO((crash ? "kill -9" : "SIGTERM"));
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context& context, json&) {
    if (context.identity().id == "failing") throw std::runtime_error("as ever");
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("failing"), json{{"value", 0}});
  wait_for("the first failure", [&] { return phase(bucket, thing("failing")) == Phase::failing; });
  Load load(bucket, 50);
  for (int restarts = 0; restarts < 5; ++restarts) {
    const int before = load.confirmed();
    wait_for(
        "load", [&] { return load.confirmed() > before + 100; }, 20s);
    crash ? server.kill() : server.stop();
    server.start();
  }
  const std::map<std::string, int> newest = load.stop();
  REQUIRE(newest.size() == 50);
  wait_all_settled(bucket, newest, 8s);

  const std::size_t failures = journal.count("failing");
  wait_for("the failing one to be tried on", [&] { return journal.count("failing") > failures; });
  CHECK(phase(bucket, thing("failing")) == Phase::failing);
  // New work is taken at once, which is what a stalled consumer would not do.
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 15; ++i) bucket.notify(thing(std::to_string(i)), json{{"value", "late"}});
  for (int i = 0; i < 15; ++i) {
    wait_settled_on(bucket, thing(std::to_string(i)), json{{"value", "late"}});
  }
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
}

TEST_CASE("server: a notify waits for a server that comes back", "[server_faults][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  server.stop();
  std::atomic<bool> returned = false;
  std::string code;
  std::jthread notifier([&] {
    code = code_of([&] { bucket.notify(thing("a"), json{{"value", 1}}); });
    returned = true;
  });
  CHECK_FALSE(becomes_true([&] { return returned.load(); }, 1s));
  server.start();
  wait_for("the notify to return", [&] { return returned.load(); });
  CHECK(code == "none");
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
}

TEST_CASE("server: a run that ends while the server is away is still completed",
          "[server_faults][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  bucket.register_type(kType, journal.noting([&](Context& context, json& cache) {
    if (context.identity().id == "a") gate.pass(context.stop_token());
    cache["seen"] = true;
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the run", [&] { return journal.count("a") == 1; });
  server.kill();
  gate.open();
  wait_for("the run to end", [&] { return journal.runs("a")[0].end_ns != 0; });
  server.start();
  wait_settled_on(bucket, thing("a"), json{{"seen", true}, {"value", 1}}, 15s);
}

TEST_CASE("server: a pause shorter than a publish deadline is survived",
          "[server_faults][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  Load load(bucket, 20);
  wait_for(
      "load", [&] { return load.confirmed() > 200; }, 20s);
  server.pause();
  CHECK_FALSE(becomes_true([] { return false; }, 4s));  // longer than a lease lives
  server.resume();
  const int before = load.confirmed();
  wait_for(
      "load after the pause", [&] { return load.confirmed() > before + 200; }, 20s);
  wait_all_settled(bucket, load.stop(), 15s);
  for (int i = 0; i < 20; ++i) CHECK(most_at_once(journal.runs(std::to_string(i))) == 1);
}

TEST_CASE("server: when its store was wiped the worker says so and goes on",
          "[server_faults][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  for (int i = 0; i < 20; ++i) bucket.notify(thing(std::to_string(i)), json{{"value", 1}});
  for (int i = 0; i < 20; ++i) {
    wait_settled_on(bucket, thing(std::to_string(i)), json{{"value", 1}});
  }
  server.kill();
  std::filesystem::remove_all(server.store_directory());
  server.start();
  {
    Bucket again = open_bucket(server);  // as `dmm init` would
    wait_for(
        "a notify to be stored",
        [&] { return code_of([&] {
                       again.notify(thing("0"), json{{"value", 2}});
                     }) == "none"; },
        30s);
    wait_settled_on(again, thing("0"), json{{"value", 2}}, 30s);
  }
  CHECK(work.stats().history_losses >= 1);
  bucket.notify(thing("1"), json{{"value", 3}});
  wait_settled_on(bucket, thing("1"), json{{"value", 3}});
}
