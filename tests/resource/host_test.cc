// Goal: a host begins and ends as its program wants, works its own kinds only, and what it leaves
// is taken over.

#include "fixture.h"

#include <stdexcept>
#include <thread>

namespace dmm::resource {

TEST_CASE("host: a kind is added once and by its rules", "[resource][host][integration]") {
  Scene scene;
  Bucket bucket = open_bucket(scene.nats);
  Host host(bucket, scene.connection());
  const auto working = [](const std::string& kind) {
    AnyController controller;
    controller.kind = kind;
    controller.work = [](WorkContext&, AnyResource) { return Verdict::synced(); };
    return controller;
  };
  CHECK_NOTHROW(host.add(working("user")));
  CHECK(code_of([&] { host.add(working("user")); }) == "DMM-0402");
  CHECK(code_of([&] { host.add(working("")); }) == "DMM-0803");
  CHECK(code_of([&] { host.add(working(std::string(65, 'a'))); }) == "DMM-0803");
  CHECK(code_of([&] { host.add(working("User Account")); }) == "DMM-0803");
  CHECK_NOTHROW(host.add(working(std::string(64, 'a'))));
  CHECK_NOTHROW(host.add(working("inform")));
  CHECK_NOTHROW(host.add(working("resource-upkeep")));
  AnyController empty;
  empty.kind = "empty";
  CHECK(code_of([&] { host.add(empty); }) == "DMM-0404");
  AnyController informer;
  informer.kind = std::string(64, 'b');
  informer.inform = [](InformContext&, AnySink&) { return Listed::complete(); };
  CHECK_NOTHROW(host.add(informer));
}

TEST_CASE("host: each process works its own kinds and any other may inform them",
          "[resource][host][integration]") {
  Scene scene;
  Tally tally;
  // Nobody has a controller yet, and this program has none.
  scene.client.inform(Note{"n1", "text"});
  scene.client.inform(User{"u1", "Ada", 1});
  Running notes(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>&) {
      tally.add("note");
      return Verdict::synced();
    }});
  });
  wait_state(scene.client, {"note", "n1"}, State::synced);
  CHECK(state_of(scene.client, {"user", "u1"}) == State::scheduled);
  Running users(scene, [&](Host& host) {
    host.add<User>(Working<User>{[&](WorkContext&, const Resource<User>&) {
      tally.add("user");
      return Verdict::synced();
    }});
  });
  wait_state(scene.client, {"user", "u1"}, State::synced);
  CHECK(tally.count("note") == 1);
  CHECK(tally.count("user") == 1);
}

TEST_CASE("host: stop lets what runs end and begins nothing new", "[resource][host][integration]") {
  Scene scene;
  Bucket bucket = open_bucket(scene.nats);
  Host host(bucket, scene.connection(), Running::quick());
  Gate gate;
  Tally tally;
  KindOptions options = quick_retries();
  options.work.concurrency = 1;
  options.work.grace = 30s;
  host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
                   tally.add(note.key.id);
                   gate.pass(context.stop_token());
                   return Verdict::synced();
                 }},
                 options);
  host.start();
  CHECK(code_of([&] { host.start(); }) == "DMM-0404");
  for (const char* id : {"n1", "n2", "n3"}) scene.client.inform(Note{id, "text"});
  wait_for("one work", [&] { return tally.total() == 1; });
  CHECK(code_of([&] { host.stop(200ms); }) == "DMM-0103");
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'running'") == 1);
  gate.open();
  host.stop(20s);
  CHECK(tally.total() == 1);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 1);
  CHECK(scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'scheduled'") == 2);
}

TEST_CASE("host: a work that the end of the program interrupts costs no attempt",
          "[resource][host][integration]") {
  Scene scene;
  Tally tally;
  KindOptions options = quick_retries();
  options.work.grace = 100ms;
  {
    Running running(scene, [&](Host& host) {
      host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
                       tally.add(note.key.id);
                       Gate never;
                       if (!never.pass(context.stop_token())) {
                         throw std::runtime_error("interrupted");
                       }
                       return Verdict::synced();
                     }},
                     options);
    });
    scene.client.inform(Note{"n1", "text"}, {.max_attempts = 1});
    wait_for("the work", [&] { return tally.total() == 1; });
  }
  const auto stored = scene.client.get<Note>("n1");
  CHECK(stored->state == State::scheduled);
  CHECK(stored->attempt == 0);
  CHECK(stored->errors.empty());
  Running running(scene, [&](Host& host) {
    host.add<Note>(
        Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
  });
  wait_state(scene.client, {"note", "n1"}, State::synced);
}

TEST_CASE("host: a database that belongs to another namespace is refused",
          "[resource][host][integration]") {
  Scene scene;
  scene.db.exec("INSERT INTO dmm.resource_home (ns) VALUES ('elsewhere')");
  Bucket bucket = open_bucket(scene.nats);
  Host host(bucket, scene.connection(), Running::quick());
  CHECK(code_of([&] { host.work({}); }) == "DMM-0811");
}

TEST_CASE("host: a database that is away at the start is waited for",
          "[resource][host][integration]") {
  testing::PostgresServer server;
  testing::NatsServer nats;
  migrate(server.connection_string());
  server.stop();
  Bucket bucket = open_bucket(nats);
  Host host(bucket, server.connection_string(), Running::quick());
  host.add<Note>(
      Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
  host.start();
  server.start();
  Client client(server.connection_string());
  wait_for(
      "the database",
      [&] {
        try {
          client.inform(Note{"n1", "text"});
          return true;
        } catch (const Error&) {
          return false;
        }
      },
      30s);
  wait_state(client, {"note", "n1"}, State::synced, 20s);
  host.stop(20s);
}

TEST_CASE("host: a database that restarts in the midst of works loses none of them",
          "[resource][host][integration]") {
  testing::PostgresServer server;
  testing::NatsServer nats;
  migrate(server.connection_string());
  Bucket bucket = open_bucket(nats);
  Host host(bucket, server.connection_string(), Running::quick());
  host.add<Note>(
      Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }},
      quick_retries());
  host.start();
  Client client(server.connection_string());
  std::vector<Note> notes;
  for (int i = 0; i < 2'000; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  client.inform_many(std::span<const Note>(notes));
  for (const bool crash : {false, true}) {
    crash ? server.kill() : server.stop();
    server.start();
  }
  wait_for(
      "all to be synced",
      [&] {
        try {
          return client.kinds().at(0).counts[State::synced] == 2'000;
        } catch (const Error&) {
          return false;
        }
      },
      60s);
  host.stop(20s);
}

namespace {

/// Samples by name and labels: "dmm_resources note synced".
class Samples final : public MetricSink {
 public:
  void add(std::string_view metric, const MetricLabels& labels, double value) override {
    std::string name(metric);
    for (const auto& label : labels) name += " " + label.second;
    all[name] = value;
  }
  void add(std::string_view, const MetricLabels&, const Durations&) override {}
  std::map<std::string, double> all;
};

std::map<std::string, double> samples_of(Bucket& bucket) {
  Samples samples;
  for (const auto& source : bucket.metric_sources()) source->collect(samples);
  return samples.all;
}

}  // namespace

TEST_CASE("host: resources are counted by kind and state for those who serve metrics",
          "[resource][host][integration]") {
  Scene scene;
  Running running(scene, [](Host& host) {
    KindOptions options;
    options.retry = [](int) { return 1h; };
    host.add<Note>(Working<Note>{[](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (note.key.id == "bad") throw std::runtime_error("boom");
                     return Verdict::synced();
                   }},
                   options);
  });
  for (const char* id : {"n1", "n2", "bad"}) scene.client.inform(Note{id, "text"});
  scene.client.inform(User{"u1", "nobody works it", 1});
  wait_state(scene.client, {"note", "bad"}, State::failing);
  wait_for("the counts", [&] {
    auto all = samples_of(running.bucket());
    return all["dmm_resources note synced"] == 2 && all["dmm_resources note failing"] == 1 &&
           all["dmm_resources user scheduled"] == 1;
  });
  wait_for("an age", [&] {
    return samples_of(running.bucket())["dmm_resource_unsynced_age_seconds user"] > 1;
  });
  const auto all = samples_of(running.bucket());
  CHECK(all.at("dmm_resource_works_total") == 3);
  CHECK(all.at("dmm_resource_works_failed_total") == 1);
  CHECK(all.at("dmm_resource_relayed_total") >= 4);
}

}  // namespace dmm::resource
