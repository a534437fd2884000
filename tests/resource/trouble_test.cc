// Goal: controllers, people and clocks that misbehave cost what they touch, and nothing else.
// Method: hosts with controllers of the test, against real servers.

#include "fixture.h"

#include <stdexcept>
#include <thread>

namespace dmm::resource {

namespace {

const Key kNote{"note", "n1"};

std::int64_t count_of(Database& db, const std::string& condition) {
  return db.number("SELECT count(*) FROM dmm.resource WHERE " + condition);
}

/// Counts those within, and the most at a time. Thread-safe.
class Inside final {
 public:
  void enter() {
    const int seen = ++now_;
    int most = most_;
    while (seen > most && !most_.compare_exchange_weak(most, seen)) {
    }
  }
  void leave() { --now_; }
  int now() const { return now_; }
  int most() const { return most_; }
  void forget() { most_ = 0; }

 private:
  std::atomic<int> now_{0};
  std::atomic<int> most_{0};
};

}  // namespace

TEST_CASE("work: one that runs out of its kind's time is a failed attempt",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    KindOptions options = quick_retries();
    options.work.timeout = 300ms;
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
                     tally.add(note.key.id);
                     Gate never;
                     if (!never.pass(context.stop_token())) throw std::runtime_error("stopped");
                     return Verdict::synced();
                   }},
                   options);
    // Another kind has its own.
    host.add<User>(Working<User>{[](WorkContext& context, const Resource<User>&) {
      const auto left = context.deadline() - std::chrono::steady_clock::now();
      return left > 10min ? Verdict::synced() : Verdict::give_up("has no time");
    }});
  });
  scene.client.inform(User{"u1", "Ada", 1});
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 2});
  wait_state(scene.client, kNote, State::degraded);
  const auto stored = scene.client.get<Note>("n1");
  REQUIRE(stored->errors.size() == 2);
  CHECK(stored->errors[0].error == "ran out of time: stopped");
  CHECK(tally.total() == 2);
  wait_state(scene.client, {"user", "u1"}, State::synced);
}

TEST_CASE("work: a resource may have less time than its kind",
          "[resource][resource_work][integration]") {
  struct Patient {
    Verdict work(WorkContext& context, const Resource<Note>& note) {
      CHECK(context.deadline() - std::chrono::steady_clock::now() <
            (note.object.text == "hasty" ? 200ms : 15min));
      Gate gate;
      if (note.object.text == "calm") gate.open();
      if (!gate.pass(context.stop_token())) throw std::runtime_error("stopped");
      return Verdict::synced();
    }
    std::chrono::milliseconds timeout(const Resource<Note>& note) {
      if (note.object.text == "lost") throw std::runtime_error("which one");
      return note.object.text == "hasty" ? 200ms : 0ms;
    }
  };
  Scene scene;
  Running running(scene, [](Host& host) { host.add<Note>(Patient(), quick_retries()); });
  scene.client.inform(Note{"n1", "hasty"}, {.max_attempts = 2});
  scene.client.inform(Note{"n2", "calm"});
  scene.client.inform(Note{"n3", "lost"}, {.max_attempts = 1});
  wait_state(scene.client, {"note", "n2"}, State::synced);
  wait_state(scene.client, kNote, State::degraded);
  CHECK(scene.client.get<Note>("n1")->errors.at(0).error == "ran out of time: stopped");
  wait_state(scene.client, {"note", "n3"}, State::degraded);
  CHECK(scene.client.get<Note>("n3")->errors.at(0).error == "which one");
}

TEST_CASE("work: one that goes on behind its time is not begun beside itself",
          "[resource][resource_work][integration]") {
  Scene scene;
  Inside inside;
  Tally tally;
  Gate gate;
  Running running(scene, [&](Host& host) {
    KindOptions options = quick_retries();
    options.work.timeout = 200ms;
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
                     inside.enter();
                     tally.add(note.key.id);
                     gate.pass({});  // deaf to its stop token
                     inside.leave();
                     return Verdict::synced();
                   }},
                   options);
  });
  scene.client.inform(Note{"n1", "text"});
  wait_for("the work", [&] { return inside.now() == 1; });
  CHECK_FALSE(becomes_true([&] { return inside.most() > 1; }, 1s));
  gate.open();
  wait_state(scene.client, kNote, State::synced);
  CHECK(inside.most() == 1);
  CHECK(tally.total() == 1);
}

TEST_CASE("work: what an error says is stored short and printable",
          "[resource][resource_work][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (note.tries == 1) throw std::runtime_error("");
                     if (note.tries == 2) throw std::runtime_error("bytes \xff\xfe and \x01");
                     throw std::runtime_error(std::string(1'000'000, 'x'));
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 3});
  wait_state(scene.client, kNote, State::degraded);
  const auto errors = scene.client.get<Note>("n1")->errors;
  REQUIRE(errors.size() == 3);
  CHECK_FALSE(errors[0].error.empty());
  CHECK(errors[1].error.starts_with("bytes "));
  CHECK(errors[2].error.size() <= limits::error_text_bytes_max + 10);
}

TEST_CASE("work: a delay that its kind cannot name is as by default",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    KindOptions options;
    options.retry = [](int) -> std::chrono::milliseconds { throw std::logic_error("no idea"); };
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (tally.add(note.key.id) == 1) throw std::runtime_error("boom");
                     return Verdict::synced();
                   }},
                   options);
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced, 5s);
  const auto stored = scene.client.get<Note>("n1");
  CHECK(stored->attempt == 2);
  CHECK(stored->errors.at(0).error == "boom");
}

TEST_CASE("work: writes that throw no exception are rolled back and a failed attempt",
          "[resource][resource_work][integration]") {
  Scene scene;
  scene.db.exec("CREATE TABLE public.ledger (id text)");
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[](WorkContext&, const Resource<Note>& note) {
                     return Verdict::synced().and_commit(
                         [tries = note.tries](pqxx::transaction_base& transaction) {
                           transaction.exec("INSERT INTO ledger VALUES ('x')");
                           if (tries == 1) throw 42;  // NOLINT: meant to
                         });
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.db.number("SELECT count(*) FROM ledger") == 1);
  CHECK(scene.client.get<Note>("n1")->errors.at(0).error.find("int") != std::string::npos);
}

TEST_CASE("work: a resource that runs is neither retried nor invalidated by hand",
          "[resource][resource_work][integration]") {
  Scene scene;
  Gate gate;
  Inside inside;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>&) {
      inside.enter();
      gate.pass(context.stop_token());
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "text"});
  wait_for("the work", [&] { return inside.now() == 1; });
  const std::vector<std::function<void()>> calls{[&] { scene.client.retry(kNote); },
                                                 [&] { scene.client.invalidate(kNote); }};
  for (const auto& call : calls) {
    try {
      call();
      FAIL("a running resource was taken");
    } catch (const Error& error) {
      CHECK(&error.code() == &code::resource_state);
      CHECK(error.message().find("running") != std::string::npos);
    }
  }
  CHECK(scene.client.retry_all({.kind = "note"}) == 0);
  gate.open();
  wait_state(scene.client, kNote, State::synced);
  CHECK(inside.most() == 1);
}

TEST_CASE("work: the result of one that was forgotten meanwhile is nobody's",
          "[resource][resource_work][integration]") {
  Scene scene;
  Gate gate;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      tally.add(note.object.text);
      if (note.object.text != "second") gate.pass(context.stop_token());
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "first"});
  scene.client.inform(Note{"n2", "gone"});
  wait_for("the works", [&] { return tally.total() == 2; });
  const auto number = scene.client.get<Note>("n1")->number;
  CHECK(scene.client.forget(kNote));
  CHECK(scene.client.forget({"note", "n2"}));
  CHECK(scene.client.inform(Note{"n1", "second"}).result == Informed::Result::created);
  gate.open();
  wait_state(scene.client, kNote, State::synced);
  const auto stored = scene.client.get<Note>("n1");
  CHECK(stored->number != number);
  CHECK(stored->attempt == 1);
  CHECK(tally.count("second") == 1);
  wait_for("the token to go", [&] { return !running.bucket().inspect().get({"note", "n2"}); });
  CHECK_FALSE(scene.client.get<Note>("n2"));
}

TEST_CASE("work: how many of a namespace work at a time is changed while they do",
          "[resource][resource_work][integration]") {
  Scene scene;
  Inside inside;
  std::atomic<bool> slow{true};
  scene.client.set_namespace("small", {.max_workers = 0});
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>&) {
      inside.enter();
      if (slow) {
        std::mutex mutex;
        std::condition_variable_any changed;
        std::unique_lock lock(mutex);
        changed.wait_for(lock, context.stop_token(), 30ms, [] { return false; });
      }
      inside.leave();
      return Verdict::synced();
    }});
  });
  std::vector<AnyObject> objects;
  for (int i = 0; i < 200; ++i) {
    objects.push_back(erase(Note{"n" + std::to_string(i), "x"}, {.ns = "small"}));
  }
  scene.client.inform_many(objects);
  CHECK_FALSE(becomes_true([&] { return inside.most() > 0; }, 700ms));
  scene.client.set_namespace("small", {.max_workers = 1});
  wait_for("some works", [&] { return count_of(scene.db, "state = 'synced'") >= 5; });
  CHECK(inside.most() == 1);
  scene.client.set_namespace("small", {.max_workers = 5});
  wait_for("more at a time", [&] { return inside.most() > 1; });
  wait_for("some more works", [&] { return count_of(scene.db, "state = 'synced'") >= 60; });
  CHECK(inside.most() <= 5);
  slow = false;
  wait_for(
      "all", [&] { return count_of(scene.db, "state = 'synced'") == 200; }, 60s);
  CHECK(inside.most() <= 5);
}

TEST_CASE("work: where works are slow no more are claimed than are worked",
          "[resource][resource_work][integration]") {
  Scene scene;
  Gate gate;
  Inside inside;
  Tally tally;
  Running running(scene, [&](Host& host) {
    KindOptions options = quick_retries();
    options.work.concurrency = 2;
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>&) {
                     inside.enter();
                     gate.pass(context.stop_token());
                     inside.leave();
                     return Verdict::synced();
                   }},
                   options);
    // And another kind is worked as if they were not there.
    host.add<User>(Working<User>{[&](WorkContext&, const Resource<User>& user) {
      tally.add(user.key.id);
      return Verdict::synced();
    }});
  });
  std::vector<AnyObject> objects;
  for (int i = 0; i < 50; ++i) objects.push_back(erase(Note{"n" + std::to_string(i), "x"}));
  for (int i = 0; i < 50; ++i) objects.push_back(erase(User{"u" + std::to_string(i), "x", 1}));
  scene.client.inform_many(objects);
  wait_for("the other kind", [&] { return tally.total() == 50; });
  wait_for("two works", [&] { return inside.now() == 2; });
  CHECK_FALSE(becomes_true(
      [&] { return count_of(scene.db, "kind = 'note' AND state = 'running'") > 2; }, 1'500ms));
  gate.open();
  wait_for(
      "all", [&] { return count_of(scene.db, "state = 'synced'") == 100; }, 30s);
  CHECK(inside.most() == 2);
  CHECK(count_of(scene.db, "attempt > 1") == 0);
}

TEST_CASE("upkeep: what is being worked does not expire and each expiry is told once by a fleet",
          "[resource][upkeep][integration]") {
  Scene scene;
  Gate gate;
  Inside inside;
  scene.client.set_namespace("default", {.expiry = 100ms});
  const auto add = [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      inside.enter();
      if (note.attempt == 1) gate.pass(context.stop_token());
      if (note.attempt == 2) scene.client.set_namespace("default", {});
      return Verdict::synced();
    }});
  };
  Running one(scene, add);
  Running two(scene, add);
  scene.client.inform(Note{"n1", "text"});
  wait_for("the work", [&] { return inside.now() == 1; });
  // Several rounds of upkeep.
  CHECK_FALSE(becomes_true(
      [&] { return state_of(scene.client, kNote) != State::running || inside.now() > 1; }, 1s));
  gate.open();
  wait_for("it to expire and be worked again", [&] {
    const auto note = scene.client.get<Note>("n1");
    return note->attempt >= 2 && note->state == State::synced;
  });
  Events events(one.bucket());
  const auto attempts = static_cast<std::size_t>(scene.client.get<Note>("n1")->attempt);
  wait_for("the events", [&] { return events.read({.name = "synced"}).size() == attempts; });
  CHECK(events.read({.name = "expired"}).size() == attempts - 1);
}

TEST_CASE("host: may be started again after it was stopped", "[resource][host][integration]") {
  Scene scene;
  Bucket bucket = open_bucket(scene.nats);
  Host host(bucket, scene.connection(), Running::quick());
  host.add<Note>(
      Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
  host.stop();  // nothing to stop is no error
  for (const char* id : {"n1", "n2"}) {
    host.start();
    scene.client.inform(Note{id, "text"});
    wait_state(scene.client, {"note", id}, State::synced);
    host.stop();
  }
}

TEST_CASE("relay: a line that means nothing keeps no other back", "[resource][host][integration]") {
  Scene scene;
  scene.db.exec(
      "INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event) VALUES"
      " ('work', 'No Name', 'note', 'x', NULL), ('event', 'default', 'note', 'x', '5'),"
      " ('work', 'default', 'No Kind', 'x', NULL), ('event', 'default', 'note', 'x', NULL),"
      " ('work', 'default', 'note', repeat('x', 1000), NULL)");
  Running running(scene, [](Host& host) {
    host.add<Note>(
        Working<Note>{[](WorkContext&, const Resource<Note>&) { return Verdict::synced(); }});
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  wait_for("the outbox",
           [&] { return scene.db.number("SELECT count(*) FROM dmm.resource_outbox") == 0; });
}

TEST_CASE("informer: while one runs or waits to be tried again the schedule adds none",
          "[resource][informer][integration]") {
  Scene scene;
  Gate gate;
  Tally tally;
  KindOptions options = quick_retries();
  options.inform = Schedule::every(100ms, 0ms);
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>&) -> Listed {
                                     if (tally.add("run") == 1) throw 42;  // NOLINT: meant to
                                     gate.pass(context.stop_token());
                                     return Listed::complete();
                                   }},
                   options);
  });
  wait_for("the first failure", [&] { return tally.count("run") >= 1; });
  wait_for("an error", [&] {
    const auto informs = scene.client.informs();
    return informs.size() == 1 && informs[0].error.find("no exception") != std::string::npos;
  });
  CHECK_FALSE(becomes_true([&] { return scene.client.informs().size() > 1; }, 700ms));
  wait_for("the second try", [&] { return tally.count("run") == 2; });
  CHECK_FALSE(becomes_true([&] { return scene.client.informs().size() > 1; }, 700ms));
  gate.open();
  wait_for("the schedule to go on", [&] { return tally.count("run") >= 4; });
}

TEST_CASE("informer: one that runs out of its time is tried again behind its checkpoint",
          "[resource][informer][integration]") {
  Scene scene;
  Tally tally;
  KindOptions options = on_demand();
  options.inform_timeout = 400ms;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext& context, Sink<Note>& sink) {
                                     tally.add("run");
                                     if (!context.checkpoint().is_null()) {
                                       return Listed::complete();
                                     }
                                     sink.put({"n1", "text"});
                                     sink.checkpoint(1);
                                     Gate never;
                                     if (!never.pass(context.stop_token())) {
                                       throw std::runtime_error("stopped");
                                     }
                                     return Listed::complete();
                                   }},
                   options);
  });
  wait_for("the kind", [&] { return !scene.client.kinds().empty(); });
  scene.client.schedule_inform("note");
  wait_for(
      "the end", [&] { return scene.client.informs().empty(); }, 15s);
  CHECK(tally.count("run") == 2);
  CHECK(scene.client.kinds().at(0).last_run.at("tries") == 2);
}

TEST_CASE("informer: a clock that was set back does not put its schedule off",
          "[resource][informer][integration]") {
  Scene scene;
  std::atomic<int> runs{0};
  KindOptions options = quick_retries();
  options.inform = Schedule::every(300ms, 0ms);
  options.full = Schedule::cron("* * * * *");
  const auto add = [&](Host& host) {
    host.add<Note>(Informing<Note>{{},
                                   [&](InformContext&, Sink<Note>&) {
                                     ++runs;
                                     return Listed::complete();
                                   }},
                   options);
  };
  {
    Running running(scene, add);
    wait_for("a run", [&] { return runs > 0; });
  }
  // As if what is stored were of a time at which the clock was ten hours ahead.
  scene.db.exec(
      "UPDATE dmm.resource_kind SET next_inform_at = now() + interval '10 hours',"
      " next_full_at = now() + interval '10 hours'");
  runs = 0;
  Running running(scene, add);
  wait_for(
      "a run", [&] { return runs > 1; }, 5s);
  CHECK(scene.client.kinds().at(0).next_full_at <= std::chrono::system_clock::now() + 61s);
}

}  // namespace dmm::resource
