// Goal: what a materialize returns or throws has the effect that its documentation says.

#include <catch2/catch.hpp>

#include <atomic>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

TEST_CASE("outcome: exceptions of any type are contained and counted", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  std::atomic<bool> mended = false;
  WorkStream& work = bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    const std::string& id = context.identity().id;
    if (mended) return Outcome::done();
    if (id == "int") throw 42;
    if (id == "string") throw std::string("a thrown string");
    if (id == "exception") throw std::runtime_error("a thrown exception");
    if (id == "error") throw Error(code::not_found, "a thrown error");
    return Outcome::done();
  }),
                                          quick());
  Worker worker(bucket);
  for (const char* id : {"int", "string", "exception", "error", "good"}) {
    bucket.notify(thing(id), json{{"value", 1}});
  }
  wait_settled_on(bucket, thing("good"), json{{"value", 1}});
  for (const char* id : {"int", "string", "exception", "error"}) {
    INFO(id);
    wait_for("the failure to be stored", [&] { return look(bucket, thing(id)).attempts >= 2; });
    const Matter matter = look(bucket, thing(id));
    CHECK(matter.phase == Phase::failing);
    CHECK_FALSE(matter.error_code.empty());
    CHECK(matter.next_retry_at.has_value());
    CHECK(matter.token);
  }
  CHECK(look(bucket, thing("exception")).error.find("a thrown exception") != std::string::npos);
  CHECK(look(bucket, thing("string")).error.find("a thrown string") != std::string::npos);
  CHECK(look(bucket, thing("error")).error.find("a thrown error") != std::string::npos);
  CHECK_FALSE(look(bucket, thing("int")).error.empty());
  CHECK(look(bucket, thing("int")).error_code == "DMM-0301");
  CHECK(work.stats().failed >= 8);

  mended = true;
  for (const char* id : {"int", "string", "exception", "error"}) {
    wait_settled_on(bucket, thing(id), json{{"value", 1}});
  }
}

TEST_CASE("outcome: requeue runs again after the delay without counting a failure",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
    cache["turn"] = cache.value("turn", 0) + 1;
    return cache["turn"] < 3 ? Outcome::requeue_after(300ms) : Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"turn", 3}, {"value", 1}});
  const std::vector<Run> runs = journal.runs("a");
  REQUIRE(runs.size() == 3);
  CHECK((runs[1].start_ns - runs[0].end_ns) / 1'000'000 >= 290);
  CHECK((runs[2].start_ns - runs[1].end_ns) / 1'000'000 >= 290);
  for (const Run& run : runs) CHECK(run.attempt == 1);
}

TEST_CASE("outcome: news come before the delay of a requeue", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
    return cache["value"] == 1 ? Outcome::requeue_after(10min) : Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the entry to be stored", [&] {
    return stored(bucket, thing("a")) == json{{"value", 1}};
  });
  pass_barrier(bucket, journal);
  CHECK(journal.count("a") == 1);
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
}

TEST_CASE("outcome: a requeue is kept over a crash of the worker",
          "[outcomes][fault][integration]") {
  testing::NatsServer server;
  Journal journal;
  const auto register_on = [&](Bucket& bucket) {
    bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
      cache["turn"] = cache.value("turn", 0) + 1;
      return cache["turn"] < 2 ? Outcome::requeue_after(1500ms) : Outcome::done();
    }),
                         quick());
  };
  {
    Bucket bucket = open_bucket(server);
    register_on(bucket);
    Worker worker(bucket);
    bucket.notify(thing("a"), json{{"value", 1}});
    wait_for("the first turn", [&] { return stored(bucket, thing("a")).is_object(); });
  }
  Bucket bucket = open_bucket(server);
  register_on(bucket);
  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), json{{"turn", 2}, {"value", 1}});
  const std::vector<Run> runs = journal.runs("a");
  REQUIRE(runs.size() == 2);
  CHECK((runs[1].start_ns - runs[0].end_ns) / 1'000'000 >= 1'400);
}

TEST_CASE("outcome: park gives up until news come", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
    return cache["value"] == 1 ? Outcome::park("no such song") : Outcome::done();
  }),
                                          quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the park", [&] { return phase(bucket, thing("a")) == Phase::parked; });
  pass_barrier(bucket, journal);
  const Matter matter = look(bucket, thing("a"));
  CHECK(matter.error_code == "DMM-0303");
  CHECK(matter.error.find("no such song") != std::string::npos);
  CHECK(matter.token);
  CHECK(journal.count("a") == 1);
  CHECK(work.stats().parked == 1);

  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
  CHECK(look(bucket, thing("a")).error.empty());
}

TEST_CASE("outcome: what is parked stays parked over a restart and a poke retries it",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Journal journal;
  std::atomic<bool> mended = false;
  const auto register_on = [&](Bucket& bucket) {
    bucket.register_type(kType, journal.noting([&](Context& context, json&) {
      return context.identity().id == "a" && !mended ? Outcome::park("no") : Outcome::done();
    }),
                         quick());
  };
  {
    Bucket bucket = open_bucket(server);
    register_on(bucket);
    Worker worker(bucket);
    bucket.notify(thing("a"), json{{"value", 1}});
    wait_for("the park", [&] { return phase(bucket, thing("a")) == Phase::parked; });
  }
  Bucket bucket = open_bucket(server);
  register_on(bucket);
  Worker worker(bucket);
  pass_barrier(bucket, journal);
  CHECK(phase(bucket, thing("a")) == Phase::parked);
  CHECK(journal.count("a") == 1);
  mended = true;
  bucket.poke(thing("a"));
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
}

TEST_CASE("outcome: forget deletes the entry and the token", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
    return cache.value("value", 0) == 2 ? Outcome::forget() : Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_for("the identity to be gone", [&] { return !bucket.inspect().get(thing("a")); });
  CHECK(bucket.matter(thing("a")).is_null());
  // And it can come back.
  bucket.notify(thing("a"), json{{"value", 3}});
  wait_settled_on(bucket, thing("a"), json{{"value", 3}});
}

TEST_CASE("outcome: attempts used up end parked and news begin anew", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions options = quick();
  options.attempts_max = 3;
  bucket.register_type(kType, journal.noting([&](Context&, json& cache) {
    if (cache["value"] == 1) throw std::runtime_error("never works");
    return Outcome::done();
  }),
                       options);
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_for("the park", [&] { return phase(bucket, thing("a")) == Phase::parked; });
  CHECK(journal.count("a") == 3);
  CHECK(look(bucket, thing("a")).attempts == 3);
  CHECK(look(bucket, thing("a")).error_code == "DMM-0304");
  CHECK(look(bucket, thing("a")).error.find("never works") != std::string::npos);
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
  CHECK(journal.runs("a").back().attempt == 1);
}

TEST_CASE("outcome: a run past its timeout is told to stop and counts as failed",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate never;
  WorkOptions options = quick();
  options.timeout = 300ms;
  std::atomic<int> stopped = 0;
  WorkStream& work = bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    if (context.attempt() == 1) {
      never.pass(context.stop_token());
      stopped += context.stop_token().stop_requested() &&
                 std::chrono::steady_clock::now() >= context.deadline();
    }
    return Outcome::done();
  }),
                                          options);
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  CHECK(stopped == 1);
  REQUIRE(journal.count("a") == 2);
  CHECK(journal.runs("a")[0].length() >= 290ms);
  CHECK(journal.runs("a")[1].attempt == 2);
  CHECK(work.stats().failed == 1);
}

TEST_CASE("outcome: a run longer than a lease and shorter than its timeout runs once",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Bucket standby = open_bucket(server);
  Journal journal;
  Gate gate;
  const auto slow = [&](Context& context, json&) {
    if (context.identity().id.starts_with("slow")) gate.pass(context.stop_token());
    return Outcome::done();
  };
  WorkStream& work = bucket.register_type(kType, journal.noting(slow), quick());
  WorkStream& other = standby.register_type(kType, journal.noting(slow), quick());
  Worker worker(bucket);
  pass_barrier(bucket, journal);
  Worker waiting(standby);
  const auto losses = [&] { return work.stats().lease_losses + other.stats().lease_losses; };
  bool kept = false;
  // Who stands still past its lease loses it, rightly; then there is another slow run.
  for (int i = 0; i < 5 && !kept; ++i) {
    const std::string id = "slow" + std::to_string(i);
    const std::uint64_t before = losses();
    gate.close();
    bucket.notify(thing(id), json{{"value", 1}});
    wait_for("the slow run", [&] { return journal.count(id) >= 1; });
    const std::int64_t begun = monotonic_ns();
    wait_for("twice the life of a lease", [&] {
      return monotonic_ns() - begun > 2 * std::chrono::nanoseconds(limits::lease_ttl).count();
    });
    gate.open();
    wait_settled_on(bucket, thing(id), json{{"value", 1}});
    kept = losses() == before;
    if (kept) CHECK(journal.count(id) == 1);
  }
  CHECK(kept);
}

TEST_CASE("outcome: no more runs than the concurrency go on at a time and as many do",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  WorkOptions options = quick();
  options.concurrency = 8;
  WorkStream& work = bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    gate.pass(context.stop_token());
    return Outcome::done();
  }),
                                          options);
  Worker worker(bucket);
  for (int i = 0; i < 40; ++i) bucket.notify(thing(std::to_string(i)), json{{"value", i}});
  wait_for("eight runs", [&] { return journal.runs().size() == 8; });
  CHECK(becomes_true([&] { return work.stats().running == 8 && work.stats().ready == 32; }, 5s));
  CHECK(journal.runs().size() == 8);
  gate.open();
  for (int i = 0; i < 40; ++i) {
    wait_settled_on(bucket, thing(std::to_string(i)), json{{"value", i}});
  }
  CHECK(most_at_once(journal.runs()) == 8);
}

TEST_CASE("outcome: the time of a run begins when it runs and not when it waits for a slot",
          "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions options = quick();
  options.concurrency = 1;
  options.timeout = 4s;  // less than the line, and more than a machine stands still for
  WorkStream& work = bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    const auto end = std::chrono::steady_clock::now() + 300ms;
    becomes_true([&] { return std::chrono::steady_clock::now() >= end; }, 1s);
    if (context.stop_token().stop_requested()) throw std::runtime_error("out of time");
    return Outcome::done();
  }),
                                          options);
  std::vector<std::pair<Identity, json>> batch;
  for (int i = 0; i < 18; ++i) batch.emplace_back(thing(std::to_string(i)), json{{"value", i}});
  REQUIRE(bucket.notify_all(batch).empty());
  Worker worker(bucket);
  for (const auto& [identity, value] : batch) wait_settled_on(bucket, identity, value);
  CHECK(journal.runs().size() == 18);
  CHECK(work.stats().failed == 0);
}

TEST_CASE("outcome: the success of a tombstone deletes the entry", "[outcomes][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  std::atomic<bool> stubborn = true;
  bucket.register_type(kType, journal.noting([&](Context& context, json&) {
    if (context.deleted() && stubborn) throw std::runtime_error("still mounted");
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});

  bucket.remove(thing("a"));
  wait_for("a failed tear-down", [&] { return phase(bucket, thing("a")) == Phase::failing; });
  CHECK(look(bucket, thing("a")).deleted);
  CHECK(look(bucket, thing("a")).stored.has_value());
  stubborn = false;
  wait_for("the identity to be gone", [&] { return !bucket.inspect().get(thing("a")); });
  CHECK(bucket.matter(thing("a")).is_null());
  const Run last = journal.runs("a").back();
  CHECK(last.deleted);
  CHECK(last.cache == json{{"value", 1}});
}
