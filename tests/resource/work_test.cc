// Goal: each informed content is worked until it succeeds, by one worker at a time, and what is
// stored says how that went.
// Method: hosts with controllers of the test, against real servers.

#include "fixture.h"

#include <set>
#include <stdexcept>
#include <thread>

namespace dmm::resource {

namespace {

const Key kNote{"note", "n1"};

Verdict synced(WorkContext&, const Resource<Note>&) {
  return Verdict::synced();
}

std::int64_t idle_in_transaction(Database& db) {
  return db.number(
      "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
      " AND application_name LIKE 'dmm%'");
}

}  // namespace

TEST_CASE("work: what is committed is worked within a second and synced",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      CHECK(note.object.text == "text");
      CHECK(note.state == State::running);
      CHECK(note.attempt == 1);
      CHECK(note.tries == 1);
      CHECK(context.attempt() == 1);
      CHECK(note.tags == std::vector<std::string>{"tag"});
      CHECK(note.metadata == json{{"a", 1}});
      tally.add(note.key.id);
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"warm", "text"}, {.tags = {{"tag"}}, .metadata = json{{"a", 1}}});
  wait_state(scene.client, {"note", "warm"}, State::synced);
  std::string id;
  bool within_a_second = false;
  // Where the machine stands still it takes longer: then it is done once more.
  for (int i = 1; i <= 3 && !within_a_second; ++i) {
    id = "n" + std::to_string(i);
    pqxx::work transaction(scene.db.connection());
    scene.client.inform_tx(transaction, Note{id, "text"},
                           {.tags = {{"tag"}}, .metadata = json{{"a", 1}}});
    CHECK_FALSE(becomes_true([&] { return tally.count(id) > 0; }, 300ms));
    transaction.commit();
    within_a_second = becomes_true(
        [&] {
          return state_of(scene.client, {"note", id}) == State::synced;
        },
        1s);
    wait_state(scene.client, {"note", id}, State::synced);
  }
  CHECK(within_a_second);
  const auto stored = scene.client.get<Note>(id);
  CHECK(stored->attempt == 1);
  CHECK(stored->tries == 0);
  CHECK(stored->synced_at);
  CHECK(stored->attempted_at);
  CHECK(stored->errors.empty());
  CHECK(tally.count(id) == 1);
}

TEST_CASE("work: no transaction is open meanwhile and an inform does not wait for it",
          "[resource][resource_work][integration]") {
  Scene scene;
  Gate gate;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      tally.add(note.object.text);
      gate.pass(context.stop_token());
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "first"});
  wait_for("the work", [&] { return tally.count("first") == 1; });
  CHECK(state_of(scene.client, kNote) == State::running);
  wait_for("no transaction", [&] { return idle_in_transaction(scene.db) == 0; });
  const auto before = std::chrono::steady_clock::now();
  CHECK(scene.client.inform(Note{"n1", "second"}).result == Informed::Result::updated);
  CHECK(std::chrono::steady_clock::now() - before < 10s);  // the gate would hold it for longer
  CHECK(state_of(scene.client, kNote) == State::scheduled);
  gate.open();
  wait_state(scene.client, kNote, State::synced);
  CHECK(tally.count("second") == 1);
  CHECK(tally.count("first") == 1);
  CHECK(scene.client.get<Note>("n1")->object.text == "second");
}

TEST_CASE("work: a failed attempt is stored with its error and tried again when it is due",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
      if (tally.add(note.key.id) == 1) throw std::runtime_error("boom");
      CHECK(note.errors.size() == 1);
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::failing);
  const auto failed = scene.client.get<Note>("n1");
  CHECK_FALSE(failed->synced_at);
  REQUIRE(failed->errors.size() == 1);
  CHECK(failed->errors[0].error == "boom");
  CHECK(failed->errors[0].attempt == 1);
  CHECK(failed->errors[0].at.ends_with("Z"));
  CHECK(failed->errors[0].trace.find("runtime_error") != std::string::npos);
  REQUIRE(failed->retry_at);
  const auto delay = *failed->retry_at - *failed->state_at;
  CHECK(delay >= 890ms);  // the first retry comes after a second, give or take a tenth
  CHECK(delay <= 1'110ms);
  wait_state(scene.client, kNote, State::synced, 5s);
  CHECK(scene.client.get<Note>("n1")->attempt == 2);
}

TEST_CASE("work: the last attempt that is allowed degrades it and nothing more is tried",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  std::atomic<bool> well{false};
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     tally.add(note.key.id);
                     if (!well) throw std::runtime_error("boom");
                     return Verdict::synced();
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 3});
  wait_state(scene.client, kNote, State::degraded);
  CHECK(tally.total() == 3);
  CHECK(scene.client.get<Note>("n1")->errors.size() == 3);
  CHECK_FALSE(becomes_true([&] { return tally.total() > 3; }, 500ms));
  // A token that is left over, or a person who pokes, does not work it; a retry does.
  running.bucket().poke({"note", "n1"});
  CHECK_FALSE(becomes_true([&] { return tally.total() > 3; }, 500ms));
  well = true;
  scene.client.retry(kNote);
  wait_state(scene.client, kNote, State::synced);
  CHECK(tally.total() == 4);
}

TEST_CASE("work: new content of a degraded resource is worked with all its attempts",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     tally.add(note.object.text);
                     throw std::runtime_error("boom");
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "first"}, {.max_attempts = 2});
  wait_state(scene.client, kNote, State::degraded);
  scene.client.inform(Note{"n1", "second"});
  wait_for("two more attempts", [&] { return tally.count("second") == 2; });
  wait_state(scene.client, kNote, State::degraded);
  CHECK(scene.client.get<Note>("n1")->attempt == 4);
}

TEST_CASE("work: whatever is thrown counts as a failed attempt and names what it was",
          "[resource][resource_work][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (note.tries == 1) throw 42;  // NOLINT: meant to
                     if (note.tries == 2) throw "a text";
                     try {
                       throw std::out_of_range("the cause");
                     } catch (...) {
                       std::throw_with_nested(std::runtime_error("outer"));
                     }
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 3});
  wait_state(scene.client, kNote, State::degraded);
  const auto errors = scene.client.get<Note>("n1")->errors;
  REQUIRE(errors.size() == 3);
  CHECK(errors[0].error.find("int") != std::string::npos);
  CHECK(errors[1].error == "a text");
  CHECK(errors[2].error == "outer");
  CHECK(errors[2].trace.find("the cause") != std::string::npos);
}

TEST_CASE("work: only the newest errors are kept", "[resource][resource_work][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[](WorkContext&, const Resource<Note>& note) -> Verdict {
                     throw std::runtime_error("boom " + std::to_string(note.tries));
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 25});
  wait_state(scene.client, kNote, State::degraded, 30s);
  const auto errors = scene.client.get<Note>("n1")->errors;
  REQUIRE(errors.size() == 20);
  CHECK(errors.front().error == "boom 6");
  CHECK(errors.back().error == "boom 25");
}

TEST_CASE("work: a controller may say that an object is gone",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      tally.add(note.key.id);
      return Verdict::deleted("gone over there");
    }});
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::deleted);
  const auto stored = scene.client.get<Note>("n1");
  REQUIRE(stored->errors.size() == 1);
  CHECK(stored->errors[0].error == "gone over there");
  // A second token of the same resource is dropped.
  running.bucket().poke({"note", "n1"});
  CHECK_FALSE(becomes_true([&] { return tally.total() > 1; }, 500ms));
  CHECK(state_of(scene.client, kNote) == State::deleted);
}

TEST_CASE("work: a controller may give up or ask for more time",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      if (note.key.id == "hopeless") return Verdict::give_up("wrong address");
      return tally.add(note.key.id) < 3 ? Verdict::snooze(50ms) : Verdict::synced();
    }});
  });
  scene.client.inform(Note{"hopeless", "text"});
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 1});
  wait_state(scene.client, {"note", "hopeless"}, State::degraded);
  CHECK(scene.client.get<Note>("hopeless")->errors.at(0).error == "wrong address");
  wait_state(scene.client, kNote, State::synced);
  CHECK(tally.count("n1") == 3);
  CHECK(scene.client.get<Note>("n1")->errors.empty());
}

TEST_CASE("work: a resource that was forgotten is not worked any more",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  scene.client.inform(Note{"n1", "text"});
  CHECK(scene.client.forget(kNote));
  CHECK_FALSE(scene.client.forget(kNote));
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      tally.add(note.key.id);
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n2", "text"});
  wait_state(scene.client, {"note", "n2"}, State::synced);
  wait_for("the token to go", [&] { return !running.bucket().inspect().get({"note", "n1"}); });
  CHECK(tally.count("n1") == 0);
}

TEST_CASE("work: a transaction that holds the row and is rolled back does not lose the retry",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) -> Verdict {
                     if (tally.add(note.key.id) == 1) throw std::runtime_error("boom");
                     return Verdict::synced();
                   }},
                   [] {
                     KindOptions options;
                     options.retry = [](int) { return 300ms; };
                     return options;
                   }());
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::failing);
  {
    pqxx::work transaction(scene.db.connection());
    scene.client.inform_tx(transaction, Note{"n1", "never committed"});
    CHECK_FALSE(becomes_true([&] { return tally.total() > 1; }, 1s));  // its retry was due
    transaction.abort();
  }
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.client.get<Note>("n1")->object.text == "text");
}

TEST_CASE("work: a result waits for a transaction that holds the row",
          "[resource][resource_work][integration]") {
  Scene scene;
  Gate gate;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      tally.add(note.object.text);
      gate.pass(context.stop_token());
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "first"});
  wait_for("the work", [&] { return tally.count("first") == 1; });
  {
    pqxx::work transaction(scene.db.connection());
    scene.client.inform_tx(transaction, Note{"n1", "second"});
    gate.open();
    CHECK_FALSE(
        becomes_true([&] { return state_of(scene.client, kNote) == State::synced; }, 300ms));
    transaction.commit();
  }
  wait_state(scene.client, kNote, State::synced);
  CHECK(tally.count("second") == 1);
}

TEST_CASE("work: a resource can be worked more than 32767 times",
          "[resource][resource_work][integration]") {
  Scene scene;
  scene.client.inform(Note{"n1", "text"});
  scene.db.exec("UPDATE dmm.resource SET attempt = 3000000000");
  Running running(scene, [&](Host& host) { host.add<Note>(Working<Note>{synced}); });
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.client.get<Note>("n1")->attempt == 3'000'000'001);
}

TEST_CASE("work: what the controller writes and the state commit together",
          "[resource][resource_work][integration]") {
  Scene scene;
  scene.db.exec("CREATE TABLE public.ledger (id text PRIMARY KEY, attempt bigint)");
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(
        Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
          const int count = tally.add(note.key.id);
          return Verdict::synced().and_commit([id = note.key.id, attempt = note.attempt,
                                               count](pqxx::transaction_base& transaction) {
            transaction.exec_params("INSERT INTO ledger VALUES ($1, $2)", id, attempt);
            if (count == 1) throw std::runtime_error("not this time");
          });
        }},
        quick_retries());
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.db.number("SELECT attempt FROM ledger WHERE id = 'n1'") == 2);
  const auto stored = scene.client.get<Note>("n1");
  REQUIRE(stored->errors.size() == 1);
  CHECK(stored->errors[0].error.find("not this time") != std::string::npos);
}

TEST_CASE("work: what a controller would write is not written for content that is stale",
          "[resource][resource_work][integration]") {
  Scene scene;
  scene.db.exec("CREATE TABLE public.ledger (id text, text text)");
  Gate gate;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      tally.add(note.object.text);
      gate.pass(context.stop_token());
      return Verdict::synced().and_commit(
          [id = note.key.id, text = note.object.text](pqxx::transaction_base& transaction) {
            transaction.exec_params("INSERT INTO ledger VALUES ($1, $2)", id, text);
          });
    }});
  });
  scene.client.inform(Note{"n1", "first"});
  wait_for("the work", [&] { return tally.count("first") == 1; });
  scene.client.inform(Note{"n1", "second"});
  gate.open();
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.db.number("SELECT count(*) FROM ledger") == 1);
  CHECK(scene.db.text("SELECT text FROM ledger") == "second");
}

TEST_CASE("work: a statement that the database refuses is a failed attempt",
          "[resource][resource_work][integration]") {
  Scene scene;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
                     return Verdict::synced().and_commit(
                         [tries = note.tries](pqxx::transaction_base& transaction) {
                           transaction.exec(tries < 3 ? "SELECT 1 FROM no_such_table" : "SELECT 1");
                         });
                   }},
                   quick_retries());
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  CHECK(scene.client.get<Note>("n1")->errors.size() == 2);
}

TEST_CASE("work: an invalidated resource is worked again at once",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      tally.add(note.key.id);
      return Verdict::synced();
    }});
  });
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  scene.client.invalidate(kNote);
  wait_for(
      "the second work", [&] { return tally.count("n1") == 2; }, 3s);
  wait_state(scene.client, kNote, State::synced);
}

TEST_CASE("work: a paused kind waits and others do not", "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  Running running(scene, [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      tally.add(note.key.id);
      return Verdict::synced();
    }});
    host.add<User>(
        Working<User>{[](WorkContext&, const Resource<User>&) { return Verdict::synced(); }});
  });
  CHECK(code_of([&] { scene.client.pause("nobody"); }) == "DMM-0812");
  wait_for("the kinds", [&] { return scene.client.kinds().size() == 2; });
  scene.client.pause("note", "maintenance");
  for (int i = 0; i < 50; ++i) scene.client.inform(Note{"n" + std::to_string(i), "text"});
  scene.client.inform(User{"u1", "Ada", 1});
  wait_state(scene.client, {"user", "u1"}, State::synced);
  CHECK_FALSE(becomes_true([&] { return tally.total() > 0; }, 1'500ms));
  CHECK(scene.client.kinds().at(0).paused_because == "maintenance");
  CHECK(scene.client.resume("note"));
  CHECK_FALSE(scene.client.resume("note"));
  wait_for("all notes", [&] { return tally.total() == 50; });
  for (int i = 0; i < 50; ++i) {
    wait_state(scene.client, {"note", "n" + std::to_string(i)}, State::synced);
  }
  CHECK(tally.total() == 50);
}

TEST_CASE("work: a namespace has no more works at a time than it may and others have theirs",
          "[resource][resource_work][integration]") {
  Scene scene;
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  Tally tally;
  scene.client.set_namespace("small", {.max_workers = 2});
  const auto add = [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext& context, const Resource<Note>& note) {
      tally.add(note.key.ns);
      if (note.key.ns != "small") return Verdict::synced();
      const int running = ++now;
      int seen = most;
      while (running > seen && !most.compare_exchange_weak(seen, running)) {
      }
      std::mutex mutex;
      std::condition_variable_any changed;
      std::unique_lock lock(mutex);
      changed.wait_for(lock, context.stop_token(), 20ms, [] { return false; });
      --now;
      return Verdict::synced();
    }});
  };
  Running one(scene, add);
  Running two(scene, add);
  std::vector<AnyObject> objects;
  for (int i = 0; i < 60; ++i) {
    objects.push_back(erase(Note{"n" + std::to_string(i), "x"}, {.ns = "small"}));
  }
  for (int i = 0; i < 60; ++i) objects.push_back(erase(Note{"n" + std::to_string(i), "x"}));
  scene.client.inform_many(objects);
  wait_for("the others", [&] { return tally.count("default") == 60; });
  wait_for(
      "all of the small one",
      [&] {
        return scene.client.list({.ns = "small", .states = {State::synced}}).resources.size() == 60;
      },
      30s);
  CHECK(most <= 2);
  CHECK(most >= 1);
  CHECK(tally.count("small") == 60);
  // A limit that is taken away is gone without a restart.
  scene.client.set_namespace("small", {});
  most = 0;
  for (AnyObject& object : objects) object.options.force = true;
  scene.client.inform_many(objects);
  wait_for(
      "all again", [&] { return tally.count("small") == 120; }, 30s);
  CHECK(most > 2);
}

TEST_CASE("work: no more controllers work at a time than there are places however many are ahead",
          "[resource][resource_work][integration]") {
  Scene scene;
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  std::atomic<int> worked{0};
  Running running(scene, [&](Host& host) {
    KindOptions options = quick_retries();
    options.work.concurrency = 2;
    options.ahead = 20;
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>&) {
                     const int running_now = ++now;
                     int seen = most;
                     while (running_now > seen && !most.compare_exchange_weak(seen, running_now)) {
                     }
                     ++worked;
                     --now;
                     return Verdict::synced();
                   }},
                   options);
  });
  std::vector<Note> notes;
  for (int i = 0; i < 500; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  scene.client.inform_many(std::span<const Note>(notes));
  wait_for(
      "all",
      [&] {
        return scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 500;
      },
      30s);
  CHECK(worked == 500);
  CHECK(most <= 2);
}

TEST_CASE("work: what cannot be decoded is a failed attempt and not a dead worker",
          "[resource][resource_work][integration]") {
  Scene scene;
  Running running(scene,
                  [&](Host& host) { host.add<Note>(Working<Note>{synced}, quick_retries()); });
  scene.client.inform(AnyObject{"note", "bad", json{{"text", 5}}, {}, {.max_attempts = 2}});
  scene.client.inform(Note{"n1", "text"});
  wait_state(scene.client, kNote, State::synced);
  wait_state(scene.client, {"note", "bad"}, State::degraded);
  CHECK(scene.client.get({"note", "bad"})->errors.at(0).error.find("DMM-0209") !=
        std::string::npos);
}

TEST_CASE("work: two workers share the resources and work none of them twice",
          "[resource][resource_work][integration]") {
  Scene scene;
  Tally tally;
  const auto add = [&](Host& host) {
    host.add<Note>(Working<Note>{[&](WorkContext&, const Resource<Note>& note) {
      tally.add(note.key.id);
      return Verdict::synced();
    }});
  };
  Running one(scene, add);
  Running two(scene, add);
  std::vector<Note> notes;
  for (int i = 0; i < 1'000; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  scene.client.inform_many(std::span<const Note>(notes));
  wait_for(
      "all",
      [&] {
        return scene.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'synced'") == 1'000;
      },
      30s);
  CHECK(tally.total() == 1'000);
}

}  // namespace dmm::resource
