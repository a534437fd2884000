// Goal: everything that happens to resources is told once, in order for each of them, to whoever
// follows, from where they left off.

#include "fixture.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

namespace dmm::resource {

namespace {

std::vector<std::string> names(const std::vector<Event>& events, const std::string& id) {
  std::vector<std::string> names;
  for (const Event& event : events) {
    if (event.key.id == id) names.push_back(event.name);
  }
  return names;
}

}  // namespace

TEST_CASE("events: a life is told in its order", "[resource][events][integration]") {
  Scene scene;
  std::atomic<bool> well{false};
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (note.object.text == "gone") return Verdict::deleted("gone over there");
                     if (!well) throw std::runtime_error("boom");
                     return Verdict::synced();
                   }},
                   quick_retries());
  });
  Events events(running.bucket());
  const Key key{"note", "n1"};
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 2});
  wait_state(scene.client, key, State::degraded);
  well = true;
  scene.client.retry(key);
  wait_state(scene.client, key, State::synced);
  scene.client.invalidate(key);
  wait_for("the second sync", [&] { return names(events.read(), "n1").size() == 6; });
  wait_state(scene.client, key, State::synced);
  scene.client.inform(Note{"n1", "gone"});
  wait_state(scene.client, key, State::deleted);
  scene.client.inform(Note{"n1", "gone"});
  const std::vector<std::string> expected{"failing", "degraded", "synced",  "recovered",
                                          "expired", "synced",   "deleted", "skipped"};
  wait_for("all events", [&] { return names(events.read(), "n1").size() == expected.size(); });
  const std::vector<Event> all = events.read();
  CHECK(names(all, "n1") == expected);
  CHECK(all[0].reason == "boom");
  CHECK(all[0].attempt == 1);
  CHECK(all[0].state == "failing");
  CHECK(all[0].key == key);
  CHECK(all[2].generation == 1);
  CHECK(all[6].reason == "gone over there");
  CHECK(all[7].reason == "deleted");
  CHECK(std::is_sorted(all.begin(), all.end(),
                       [](const Event& a, const Event& b) { return a.id < b.id; }));
  CHECK(events.newest() == all.back().position);
}

TEST_CASE("events: a follower that comes back goes on where it was",
          "[resource][events][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(
        Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
  });
  std::vector<std::string> seen;
  Sequence position;
  const auto follow = [&](std::size_t until) {
    Events events(running.bucket());
    std::stop_source stop;
    events.follow({.kind = "note", .name = "synced"}, position, stop.get_token(),
                  [&](const Event& event) {
                    seen.push_back(event.key.id);
                    position = event.position;
                    if (seen.size() == until) stop.request_stop();
                  });
  };
  const auto inform = [&](int from, int to) {
    std::vector<Note> notes;
    for (int i = from; i < to; ++i) notes.push_back({"n" + std::to_string(i), "text"});
    scene.client.inform_many(std::span<const Note>(notes));
  };
  inform(0, 100);
  follow(60);
  inform(100, 200);
  follow(200);
  std::sort(seen.begin(), seen.end());
  CHECK(std::unique(seen.begin(), seen.end()) == seen.end());
  CHECK(seen.size() == 200);
}

TEST_CASE("events: what the outbox tells twice stands in the stream once",
          "[resource][events][integration]") {
  Scene scene;
  const auto run = [&] {
    Running running(scene, [&](Host& host) {
      host.add<Note>(
          Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
    });
    scene.client.inform(Note{"n1", "text"}, {.force = true});
    wait_state(scene.client, {"note", "n1"}, State::synced);
    wait_for("the outbox",
             [&] { return scene.db.number("SELECT count(*) FROM dmm.resource_outbox") == 0; });
  };
  scene.db.exec(
      "CREATE TABLE public.ledger AS SELECT * FROM dmm.resource_outbox WHERE false;"
      "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
      " INSERT INTO public.ledger VALUES (NEW.*); RETURN NEW; END $$;"
      "CREATE TRIGGER keep AFTER INSERT ON dmm.resource_outbox FOR EACH ROW"
      " EXECUTE FUNCTION public.keep()");
  run();
  // As if the transaction that told them had been undone by a crash.
  scene.db.exec(
      "DROP TRIGGER keep ON dmm.resource_outbox; DROP FUNCTION public.keep;"
      "INSERT INTO dmm.resource_outbox OVERRIDING SYSTEM VALUE SELECT * FROM public.ledger");
  run();
  Bucket bucket = open_bucket(scene.nats);
  Events events(bucket);
  CHECK(names(events.read(), "n1") == std::vector<std::string>{"synced", "synced"});
}

TEST_CASE("events: a filter takes what it names and refuses what is no event",
          "[resource][events][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(
        Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
    host.add<User>(
        Working<User>{[](WorkContext&, const Resource<User>&) { return Verdict::deleted("no"); }});
  });
  scene.client.inform(Note{"n1", "text"});
  scene.client.inform(Note{"n1", "text"}, {.ns = "tenant-a"});
  scene.client.inform(User{"u1", "Ada", 1});
  Events events(running.bucket());
  wait_for("three events", [&] { return events.read().size() == 3; });
  CHECK(events.read({.kind = "note"}).size() == 2);
  CHECK(events.read({.name = "deleted"}).size() == 1);
  CHECK(events.read({.kind = "note", .ns = "tenant-a"}).size() == 1);
  CHECK(events.read({}, {}, 2).size() == 2);
  CHECK(events.read({}, events.newest()).empty());
  CHECK(code_of([&] { events.read({.name = "no-such"}); }) == "DMM-0404");
  CHECK(code_of([&] { events.read({.kind = "a.b"}); }) == "DMM-0803");
}

}  // namespace dmm::resource
