// Goal: the promises "no lost wake-up", "one at a time", "coalescing", "until success", "news beats
// backoff" and "poison is contained", each against a real server.

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <map>

#include "dmm/limits.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

TEST_CASE("promise: a worker killed in mid-materialize is followed by a run that succeeds",
          "[promises][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  const json news{{"value", 7}, {"hold", (files / "go").string()}};

  {
    WorkerProcess first(server, journal);
    bucket.notify(thing("a"), news);
    wait_for("the run to begin", [&] { return read_runs_of(journal, "a").size() == 1; });
    first.kill();
  }
  CHECK(look(bucket, thing("a")).token);
  testing::write_file(files / "go", "");
  WorkerProcess second(server, journal);
  wait_for("the second worker to settle it", [&] { return settled_with(bucket, thing("a"), 7); });
  const std::vector<Run> runs = read_runs_of(journal, "a");
  REQUIRE(runs.size() == 2);
  CHECK(runs[0].end_ns == 0);
  CHECK(runs[1].pid == second.pid());
  CHECK(runs[1].cache == news);
  CHECK(runs[1].epoch > runs[0].epoch);
}

TEST_CASE("promise: a notify that returned is not lost when the worker is killed at once",
          "[promises][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  std::vector<std::pair<Identity, json>> batch;
  for (int i = 0; i < 500; ++i) batch.emplace_back(thing(std::to_string(i)), json{{"value", i}});
  {
    WorkerProcess first(server, journal);
    bucket.notify(thing("warm-up"), json{{"value", 0}});
    wait_for("the first run", [&] { return !read_runs(journal).empty(); });
    REQUIRE(bucket.notify_all(batch).empty());
    first.kill();
  }
  WorkerProcess second(server, journal);
  wait_for("all 500 to settle", [&] {
    const std::vector<Matter> all = bucket.inspect().list(kType);
    return all.size() == 501 && std::ranges::all_of(all, [](const Matter& matter) {
             return matter.phase == Phase::settled && matter.revision;
           });
  });
  std::map<std::string, bool> ran;
  for (const Run& run : read_runs(journal)) ran[run.id] |= run.end_ns != 0;
  for (const auto& [identity, value] : batch) CHECK(ran[identity.id]);
}

TEST_CASE("promise: a thousand notifies during one run lead to exactly one more run on the newest",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    if (context.identity().id == "a") gate.pass(context.stop_token());
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 0}});
  wait_for("the first run", [&] { return journal.count("a") == 1; });
  for (int i = 1; i <= 1'000; ++i) bucket.notify(thing("a"), json{{"value", i}});
  pass_barrier(bucket, journal);  // so that the worker has read them
  gate.open();
  wait_settled_on(bucket, thing("a"), json{{"value", 1'000}});
  pass_barrier(bucket, journal);

  const std::vector<Run> runs = journal.runs("a");
  REQUIRE(runs.size() == 2);
  CHECK(runs[0].cache == json{{"value", 0}});
  CHECK(runs[1].cache == json{{"value", 1'000}});
  CHECK(most_at_once(runs) == 1);
}

TEST_CASE("promise: one identity never runs twice at a time however often it is notified",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  for (int i = 1; i <= 2'000; ++i) {
    bucket.notify(thing(std::to_string(i % 3)), json{{"value", i}});
  }
  wait_settled_on(bucket, thing("0"), json{{"value", 1'998}});
  wait_settled_on(bucket, thing("1"), json{{"value", 1'999}});
  wait_settled_on(bucket, thing("2"), json{{"value", 2'000}});
  for (const char* id : {"0", "1", "2"}) CHECK(most_at_once(journal.runs(id)) == 1);
}

TEST_CASE("promise: failures are retried until one run succeeds and count the attempts",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting([](Context& context, json&) {
    if (context.attempt() < 6) throw std::runtime_error("the player is off");
    return Outcome::done();
  }),
                                          quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  const std::vector<Run> runs = journal.runs("a");
  REQUIRE(runs.size() == 6);
  for (int i = 0; i < 6; ++i) CHECK(runs[static_cast<std::size_t>(i)].attempt == i + 1);
  CHECK(work.stats().failed == 5);
  CHECK(work.stats().succeeded == 1);
  CHECK(look(bucket, thing("a")).attempts == 0);
}

TEST_CASE("promise: attempts survive a crash of the worker", "[promises][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  testing::write_file(files / "broken", "");
  Bucket bucket = open_bucket(server);
  bucket.notify(thing("a"), json{{"value", 1}, {"fail_while", (files / "broken").string()}});
  int attempts = 0;
  {
    WorkerProcess first(server, journal, {"--backoff-ms", "100", "--backoff-max-ms", "600"});
    wait_for("four failed attempts to be stored",
             [&] { return look(bucket, thing("a")).attempts >= 4; });
    first.kill();
    attempts = look(bucket, thing("a")).attempts;
  }
  const std::size_t before = read_runs_of(journal, "a").size();
  WorkerProcess second(server, journal, {"--backoff-ms", "100", "--backoff-max-ms", "600"});
  wait_for("a run of the second worker",
           [&] { return read_runs_of(journal, "a").size() > before; });
  CHECK(read_runs_of(journal, "a")[before].attempt >= attempts + 1);
  CHECK(read_runs_of(journal, "a")[before].attempt <= attempts + 2);  // one may not be stored yet
  std::filesystem::remove(files / "broken");
  wait_for("success after the cause was mended",
           [&] { return settled_with(bucket, thing("a"), 1); });
}

TEST_CASE("promise: a notify during a ten-minute backoff runs at once and counts from one",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions options = quick();
  options.backoff_first = 10min;
  options.backoff_max = 10min;
  bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    if (cache["value"] == 1) throw std::runtime_error("no");
    return Outcome::done();
  }),
                       options);
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the failure", [&] { return phase(bucket, thing("a")) == Phase::failing; });
  CHECK(look(bucket, thing("a")).attempts == 1);

  const auto notified = std::chrono::steady_clock::now();
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
  CHECK(std::chrono::steady_clock::now() - notified < 10s);
  const Run last = journal.runs("a").back();
  CHECK(last.cache == json{{"value", 2}});
  CHECK(last.attempt == 1);
  CHECK(look(bucket, thing("a")).attempts == 0);
  CHECK(look(bucket, thing("a")).error.empty());
}

TEST_CASE("promise: a poke during a ten-minute backoff runs at once on the same news",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions options = quick();
  options.backoff_first = 10min;
  options.backoff_max = 10min;
  std::atomic<bool> broken = true;
  bucket.register_type(kType, journal.noting([&](Context&, json&) {
    if (broken) throw std::runtime_error("no");
    return Outcome::done();
  }),
                       options);
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the failure", [&] { return phase(bucket, thing("a")) == Phase::failing; });
  broken = false;
  bucket.poke(thing("a"));
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
}

TEST_CASE("promise: a run that hangs past its timeout holds its own slot and nothing else",
          "[promises][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  WorkOptions options = quick();
  options.concurrency = 2;
  options.timeout = 200ms;
  bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    if (context.identity().id == "stuck") gate.pass();  // deaf to its stop token
    return Outcome::done();
  }),
                       options);
  Worker worker(bucket);
  bucket.notify(thing("stuck"), json{{"value", 1}});
  wait_for("the hanging run", [&] { return journal.count("stuck") == 1; });
  for (int i = 0; i < 50; ++i) bucket.notify(thing(std::to_string(i)), json{{"value", i}});
  for (int i = 0; i < 50; ++i) {
    wait_settled_on(bucket, thing(std::to_string(i)), json{{"value", i}}, 5s);
  }
  wait_for("the timeout to be told",
           [&] { return look(bucket, thing("stuck")).error_code == "DMM-0302"; });
  CHECK(phase(bucket, thing("stuck")) == Phase::failing);
  CHECK(journal.count("stuck") == 1);  // no second run while the first one lasts
  gate.open();
  wait_settled_on(bucket, thing("stuck"), json{{"value", 1}});
  CHECK(most_at_once(journal.runs("stuck")) == 1);
}

TEST_CASE("promise: an identity that crashes its worker ends parked while the others settle",
          "[promises][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  testing::write_file(files / "poison", "");
  Bucket bucket = open_bucket(server);
  const std::vector<std::string> options{"--attempts-max", "3"};
  bucket.notify(thing("poison"), json{{"value", 0}, {"crash_while", (files / "poison").string()}});
  int crashes = 0;
  for (; crashes < 12 && phase(bucket, thing("poison")) != Phase::parked; ++crashes) {
    WorkerProcess worker(server, journal, options);
    bucket.notify(thing("good"), json{{"value", crashes}});
    wait_for(
        "the worker to crash or to park the poison",
        [&] {
          return !worker.process().running() || phase(bucket, thing("poison")) == Phase::parked;
        },
        15s);
  }
  CHECK(phase(bucket, thing("poison")) == Phase::parked);
  CHECK(crashes <= limits::crashes_max + 2);
  WorkerProcess worker(server, journal, options);
  bucket.notify(thing("good"), json{{"value", 99}});
  wait_for("the good one to settle", [&] { return settled_with(bucket, thing("good"), 99); });
  CHECK(worker.process().running());
}
