// Goal: the cache object and the token of an identity are what the promises need them to be.

#include <catch2/catch.hpp>

#include <algorithm>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// A C++ type as users write them.
struct Lamp {
  std::string id;
  int level = 0;
  int shown = -1;

  std::string identity() const { return id; }
  void set_identity(std::string value) { id = std::move(value); }
  void materialize(Context&) { shown = level; }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Lamp, id, level, shown)
};

}  // namespace

TEST_CASE("cache: a missing and a zeroed one are normal inputs", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  bucket.register_type<Lamp>("lamp", quick());
  Worker worker(bucket);
  const Identity missing{"lamp", "missing"};
  const Identity zeroed{"lamp", "zeroed"};
  bucket.poke<Lamp>("missing");
  bucket.notify(zeroed, json::object());
  wait_settled_on(bucket, missing, json{{"id", "missing"}, {"level", 0}, {"shown", 0}});
  wait_settled_on(bucket, zeroed, json{{"id", "zeroed"}, {"level", 0}, {"shown", 0}});
  bucket.notify(Lamp{"full", 5, -1});
  wait_settled_on(bucket, {"lamp", "full"}, json{{"id", "full"}, {"level", 5}, {"shown", 5}});
  CHECK(bucket.matter<Lamp>("full").shown == 5);
  CHECK(bucket.matter<Lamp>("never heard of").identity() == "never heard of");
}

TEST_CASE("cache: matter is the news that wait and else the stored entry", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    cache["seen"] = true;
    return Outcome::done();
  }),
                       quick());
  CHECK(bucket.matter(thing("a")).is_null());
  bucket.notify(thing("a"), json{{"value", 1}});
  CHECK(bucket.matter(thing("a")) == json{{"value", 1}});
  {
    Worker worker(bucket);
    wait_settled_on(bucket, thing("a"), json{{"seen", true}, {"value", 1}});
  }
  CHECK(bucket.matter(thing("a")) == json{{"seen", true}, {"value", 1}});
  bucket.notify(thing("a"), json{{"value", 2}});
  CHECK(bucket.matter(thing("a")) == json{{"value", 2}});
  CHECK(stored(bucket, thing("a")) == json{{"seen", true}, {"value", 1}});
}

TEST_CASE("cache: a run that changes nothing writes nothing", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  const Sequence revision = look(bucket, thing("a")).revision;
  const std::uint64_t written = work.stats().stored;
  for (int i = 0; i < 3; ++i) {
    const std::size_t before = journal.count("a");
    bucket.poke(thing("a"));
    wait_for("the run", [&] { return journal.count("a") > before; });
    wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  }
  CHECK(look(bucket, thing("a")).revision == revision);
  CHECK(work.stats().stored == written);
}

TEST_CASE("cache: a token that is already done is deleted without a run", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  // As a worker leaves it that died between the write of the entry and the delete of the token.
  bucket.notify(thing("a"), json{{"value", 1}});
  const Sequence token = look(bucket, thing("a")).token;
  std::string created;
  for (const auto& stream : bucket.inspect().streams()) {
    if (stream.name == names().work(1).name) created = stream.created;
  }
  REQUIRE_FALSE(created.empty());
  RawClient raw(server.port());
  raw.store(names().entry_subject("thing.a"), R"({"value":1,"shown":true})",
            {{std::string(wire::kDone), wire::format_done({created, token})}});
  CHECK(bucket.matter(thing("a")) == json{{"shown", true}, {"value", 1}});

  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), json{{"shown", true}, {"value", 1}});
  pass_barrier(bucket, journal);
  CHECK(journal.count("a") == 0);
  wait_for("the barrier to be counted", [&] { return work.stats().succeeded >= 1; });
  CHECK(work.stats().succeeded == 1);

  // The next news are above it and run.
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
  CHECK(journal.count("a") == 1);
}

TEST_CASE("cache: a token that another stream's entry calls done runs all the same",
          "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  bucket.notify(thing("a"), json{{"value", 1}});
  RawClient raw(server.port());
  raw.store(names().entry_subject("thing.a"), R"({"value":0})",
            {{std::string(wire::kDone),
              wire::format_done({"2020-01-01T00:00:00.000000000Z", Sequence{1'000}})}});
  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  CHECK(journal.count("a") == 1);
}

TEST_CASE("notify: a poke keeps the news that wait", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  bucket.notify(thing("a"), json{{"value", 5}});
  bucket.poke(thing("a"));
  bucket.poke(thing("b"));
  bucket.poke(thing("b"));
  Worker worker(bucket);
  wait_settled_on(bucket, thing("a"), json{{"value", 5}});
  pass_barrier(bucket, journal);
  REQUIRE(journal.count("a") == 1);
  CHECK(journal.runs("a")[0].cache == json{{"value", 5}});
  REQUIRE(journal.count("b") == 1);
  CHECK(journal.runs("b")[0].cache.is_null());
  // Its token is deleted behind the run.
  wait_for("the other to settle", [&] { return phase(bucket, thing("b")) == Phase::settled; });
}

TEST_CASE("notify: a batch stores all but what cannot be stored", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  std::vector<std::pair<Identity, json>> batch;
  for (int i = 0; i < 2'000; ++i) batch.emplace_back(thing(std::to_string(i)), json{{"value", i}});
  batch[17].first.id = std::string(256, 'x');
  batch[1'500].second = json{{"value", std::string(limits::payload_bytes_max, 'x')}};
  const std::vector<BatchFailure> failures = bucket.notify_all(batch);
  REQUIRE(failures.size() == 2);
  CHECK(failures[0].index == 17);
  CHECK(failures[0].error.code().id == "DMM-0201");
  CHECK(failures[1].index == 1'500);
  CHECK(failures[1].error.code().id == "DMM-0202");
  Worker worker(bucket);
  wait_for(
      "1,998 to settle",
      [&] {
        const std::vector<Matter> all = bucket.inspect().list(kType);
        return all.size() == 1'998 && std::ranges::all_of(all, [](const Matter& matter) {
                 return matter.phase == Phase::settled;
               });
      },
      20s);
  CHECK(journal.runs().size() == 1'998);
}

TEST_CASE("notify: a run may notify others and read them", "[cache][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context& context, json& cache) {
    if (context.identity().id != "first") return Outcome::done();
    context.notify(thing("second"), json{{"from", cache["value"]}});
    cache["saw"] = context.matter(thing("second"));
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("first"), json{{"value", 4}});
  wait_settled_on(bucket, thing("second"), json{{"from", 4}});
  wait_settled_on(bucket, thing("first"), json{{"saw", {{"from", 4}}}, {"value", 4}});
}
