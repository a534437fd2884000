// Goal: time passes for resources as their namespaces say, in batches, and nothing that was lost on
// the way stays lost.

#include "fixture.h"

namespace dmm::resource {

namespace {

std::int64_t count_of(Database& db, const std::string& condition) {
  return db.number("SELECT count(*) FROM dmm.resource WHERE " + condition);
}

/// Rows of a state that is so old, without anybody's work.
void make_rows(Database& db, const std::string& ns, const std::string& state, int count,
               const std::string& age) {
  db.exec(
      "INSERT INTO dmm.resource (namespace, kind, id, object, state, state_at, synced_at)"
      " SELECT '" +
      ns + "', 'note', '" + state + "' || g, ('{\"name\":\"' || '" + state +
      "' || g || '\"}')::jsonb, '" + state + "', now() - interval '" + age +
      "', now() - interval '" + age + "' FROM generate_series(1, " + std::to_string(count) +
      ") AS g");
}

KindOptions wide() {
  KindOptions options = quick_retries();
  options.work.concurrency = 64;
  return options;
}

void add_notes(Host& host) {
  host.add<Note>(
      Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }}, wide());
}

}  // namespace

TEST_CASE("upkeep: what is synced for longer than its namespace believes is worked again",
          "[resource][upkeep][integration]") {
  Scene scene;
  make_rows(scene.db, "short", "synced", 30, "2 minutes");
  make_rows(scene.db, "default", "synced", 30, "2 minutes");
  HostOptions options = Running::quick();
  options.namespaces["short"].expiry = 1min;
  Running running(scene, add_notes, options);
  wait_for("the short one", [&] {
    return count_of(scene.db, "namespace = 'short' AND attempt = 1 AND state = 'synced'") == 30;
  });
  CHECK(count_of(scene.db, "namespace = 'default' AND attempt = 0") == 30);
  // The settings may change while the host runs.
  scene.client.set_namespace("default", {.expiry = 1min});
  wait_for("the default one", [&] {
    return count_of(scene.db, "namespace = 'default' AND attempt = 1 AND state = 'synced'") == 30;
  });
}

TEST_CASE("upkeep: the settings that a host brings replace those of the start before",
          "[resource][upkeep][integration]") {
  Scene scene;
  for (const auto expiry : {60s, 3'600s}) {
    HostOptions options = Running::quick();
    options.namespaces["default"].expiry = expiry;
    Running running(scene, add_notes, options);
    wait_for("the settings", [&] {
      const auto all = scene.client.namespaces();
      return all.count("default") == 1 && all.at("default").expiry == expiry;
    });
  }
}

TEST_CASE("upkeep: what is past its retention goes and only in its namespace and state",
          "[resource][upkeep][integration]") {
  Scene scene;
  for (const char* ns : {"default", "kept"}) {
    for (const char* state : {"synced", "deleted", "degraded", "failing"}) {
      make_rows(scene.db, ns, state, 20, "25 hours");
    }
  }
  make_rows(scene.db, "default", "expired", 0, "1 hour");
  scene.db.exec(
      "UPDATE dmm.resource SET retry_at = now() + interval '1 day' WHERE state = 'failing'");
  HostOptions options = Running::quick();
  options.namespaces["default"] = {
      .synced_retention = 24h, .deleted_retention = 24h, .degraded_retention = 24h};
  options.namespaces["kept"] = {
      .synced_retention = 26h, .deleted_retention = 26h, .degraded_retention = std::nullopt};
  Running running(scene, add_notes, options);
  wait_for("the old ones to go", [&] { return count_of(scene.db, "namespace = 'default'") == 20; });
  CHECK(count_of(scene.db, "namespace = 'default' AND state = 'failing'") == 20);
  CHECK(count_of(scene.db, "namespace = 'kept'") == 80);
}

TEST_CASE("upkeep: without settings only the deleted ones go and after a day",
          "[resource][upkeep][integration]") {
  Scene scene;
  for (const char* state : {"synced", "deleted", "degraded"}) {
    make_rows(scene.db, "nobody-set-me-up", state, 5, "25 hours");
  }
  Running running(scene, add_notes);
  wait_for("the deleted ones to go", [&] { return count_of(scene.db, "state = 'deleted'") == 0; });
  CHECK(count_of(scene.db, "state IN ('synced', 'degraded')") == 10);
}

TEST_CASE("upkeep: with an expiry synced resources outlive their retention",
          "[resource][upkeep][integration]") {
  Scene scene;
  make_rows(scene.db, "default", "synced", 10, "25 hours");
  make_rows(scene.db, "default", "deleted", 10, "25 hours");
  HostOptions options = Running::quick();
  options.namespaces["default"] = {.expiry = 48h, .synced_retention = 24h};
  Running running(scene, add_notes, options);
  wait_for("a round of cleaning", [&] { return count_of(scene.db, "state = 'deleted'") == 0; });
  CHECK(count_of(scene.db, "state = 'synced'") == 10);
}

TEST_CASE("upkeep: many that expire together go through in batches",
          "[resource][upkeep][integration]") {
  Scene scene;
  constexpr int kCount = 20'000;
  make_rows(scene.db, "default", "synced", kCount, "2 hours");
  HostOptions options = Running::quick();
  options.namespaces["default"].expiry = 1h;
  Running running(
      scene,
      [](Host& host) {
        // Nobody works these, so that only the upkeep is seen.
        host.add<User>(
            Working<User>{[](WorkContext&, const Resource<User>&) { return Verdict::synced(); }});
      },
      options);
  wait_for(
      "all to be expired", [&] { return count_of(scene.db, "state = 'expired'") == kCount; }, 60s);
  wait_for(
      "all to be told",
      [&] { return scene.db.number("SELECT count(*) FROM dmm.resource_outbox") == 0; }, 60s);
  CHECK(running.host().stats().expired == kCount);
}

TEST_CASE("upkeep: a resource whose token was lost is told again",
          "[resource][upkeep][integration]") {
  Scene scene;
  scene.client.inform(Note{"n1", "text"});
  scene.db.exec(
      "DELETE FROM dmm.resource_outbox;"
      "UPDATE dmm.resource SET state_at = now() - interval '1 minute'");
  Running running(scene, add_notes);
  wait_state(scene.client, {"note", "n1"}, State::synced);
  wait_for("the count", [&] { return running.host().stats().rescued == 1; });
}

TEST_CASE("upkeep: a resource whose worker vanished without a trace is worked",
          "[resource][upkeep][integration]") {
  Scene scene;
  scene.client.inform(Note{"n1", "text"});
  scene.db.exec(
      "DELETE FROM dmm.resource_outbox; UPDATE dmm.resource SET state = 'running',"
      " claim = 'nobody', tries = 1, attempt = 1, state_at = now() - interval '1 minute'");
  Running running(scene, add_notes);
  wait_state(scene.client, {"note", "n1"}, State::synced);
  const auto stored = scene.client.get<Note>("n1");
  REQUIRE(stored->errors.size() == 1);
  CHECK(stored->errors[0].error.find("worker ended") != std::string::npos);
}

TEST_CASE("upkeep: a work stream that is lost and made anew loses no resource",
          "[resource][upkeep][integration]") {
  Scene scene;
  Gate gate;
  Tally tally;
  KindOptions options = quick_retries();
  options.work.concurrency = 4;
  const auto add = [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
                     tally.add(note.key.id);
                     gate.pass(context.stop_token());
                     return Verdict::synced();
                   }},
                   options);
  };
  HostOptions slow = Running::quick();
  slow.lost_after = 1h;  // so that the loss of the stream has to be noticed
  Running running(scene, add, slow);
  std::vector<Note> notes;
  for (int i = 0; i < 300; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  scene.client.inform_many(std::span<const Note>(notes));
  wait_for("works", [&] { return tally.total() == 4; });
  wait_for("all to be told", [&] {
    return scene.db.number("SELECT count(*) FROM dmm.resource_outbox") == 0 &&
           scene.db.number("SELECT coalesce(work_last, 0) FROM dmm.resource_home") > 300;
  });
  scene.nats.kill();
  std::filesystem::remove_all(scene.nats.store_directory() / "jetstream");
  scene.nats.start();
  gate.open();
  wait_for(
      "all to be synced", [&] { return count_of(scene.db, "state = 'synced'") == 300; }, 60s);
}

}  // namespace dmm::resource
