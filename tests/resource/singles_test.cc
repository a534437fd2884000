// Goal: callers who inform at the same time share statements and commits, and nothing else: each is
// told what became of its own object, and none pays for another one's.
// Method: many threads on one client against a real database; nobody works.

#include "fixture.h"

#include <stdexcept>
#include <thread>

namespace dmm::resource {

namespace {

using Result = Informed::Result;

/// An object whose comparison may refuse to say anything.
struct Moody {
  std::string name;
  std::int64_t version = 0;
  bool throws = false;

  std::string id() const { return name; }
  static std::string kind() { return "moody"; }
  std::int64_t compare(const Moody& stored) const {
    if (throws) throw std::domain_error("these two cannot be compared");
    return version - stored.version;
  }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Moody, name, version, throws)

/// Runs `call(i)` on a thread for each i below `count`, all at once.
void at_once(int count, const std::function<void(int)>& call) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&call, i] { call(i); });
}

std::int64_t next_transaction(Database& db) {
  return db.number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
}

}  // namespace

TEST_CASE("singles: callers at the same time share commits and get their own answers",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"known", "text"});
  store.client.inform(User{"u1", "Ada", 20});
  constexpr int kCallers = 32;
  constexpr int kEach = 20;
  std::atomic<int> wrong{0};
  const std::int64_t before = next_transaction(store.db);
  at_once(kCallers, [&](int caller) {
    for (int i = 0; i < kEach; ++i) {
      const std::string id = std::to_string(caller) + "-" + std::to_string(i);
      const Informed made = store.client.inform(Note{id, "text"});
      const auto stored = store.client.get<Note>(id);
      if (made.result != Result::created || !stored || stored->number != made.number) ++wrong;
      if (store.client.inform(Note{"known", "text"}).result != Result::unchanged) ++wrong;
      if (store.client.inform(User{"u1", "old", 10}).result != Result::stale) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == kCallers * kEach + 2);
  CHECK(store.client.get<User>("u1")->object.name == "Ada");
  // Each call would have a transaction of its own.
  CHECK(next_transaction(store.db) - before < kCallers * kEach * 2);
}

TEST_CASE("singles: a comparison that throws is its caller's alone",
          "[resource][inform][integration]") {
  Store store;
  for (int i = 0; i < 16; ++i) store.client.inform(Moody{"m" + std::to_string(i), 1});
  std::atomic<int> threw{0};
  std::atomic<int> updated{0};
  at_once(16, [&](int caller) {
    const bool throws = caller % 4 == 0;
    try {
      const auto informed = store.client.inform(Moody{"m" + std::to_string(caller), 2, throws});
      if (informed.result == Result::updated) ++updated;
    } catch (const std::domain_error&) {
      ++threw;
    }
  });
  CHECK(threw == 4);
  CHECK(updated == 12);
  CHECK(store.client.get<Moody>("m0")->object.version == 1);
  CHECK(store.client.get<Moody>("m0")->state == State::scheduled);
  CHECK(store.client.get<Moody>("m1")->object.version == 2);
}

TEST_CASE("singles: an object that cannot be compared with what is stored leaves that as it was",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(AnyObject{"moody", "m1", json{{"version", "not a number"}}});
  CHECK(code_of([&] { store.client.inform(Moody{"m1", 2}); }) == "DMM-0209");
  CHECK(store.client.get({"moody", "m1"})->generation == 1);
  CHECK(store.client.inform(Moody{"m2", 2}).result == Result::created);
}

TEST_CASE("singles: an object that the database refuses is its caller's alone",
          "[resource][inform][integration]") {
  Store store;
  store.db.exec("ALTER TABLE dmm.resource ADD CONSTRAINT no_evil CHECK (id NOT LIKE 'evil%')");
  std::atomic<int> refused{0};
  std::atomic<int> created{0};
  at_once(24, [&](int caller) {
    for (int i = 0; i < 10; ++i) {
      const bool evil = caller == 0;
      const std::string id = std::to_string(caller) + "-" + std::to_string(i);
      try {
        store.client.inform(Note{(evil ? "evil" : "good") + id, "text"});
        ++created;
      } catch (const Error& error) {
        if (&error.code() == &code::postgres_refused) ++refused;
      }
    }
  });
  CHECK(refused == 10);
  CHECK(created == 230);
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 230);
}

TEST_CASE("singles: a row that an open transaction holds keeps nobody else waiting",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"held", "text"});
  std::atomic<int> created{0};
  std::atomic<int> updated{0};
  std::atomic<bool> came{false};
  pqxx::work transaction(store.db.connection());
  store.client.inform_tx(transaction, Note{"held", "not committed yet"});
  store.client.inform_tx(transaction, Note{"new", "not committed yet"});
  {
    std::vector<std::jthread> waiters;
    for (const char* id : {"held", "new"}) {
      waiters.emplace_back([&, id] {
        if (store.client.inform(Note{id, "text"}).result == Result::updated) ++updated;
        came = true;
      });
    }
    at_once(16, [&](int caller) {
      for (int i = 0; i < 5; ++i) {
        store.client.inform(Note{std::to_string(caller) + "-" + std::to_string(i), "text"});
        ++created;
      }
    });
    CHECK(created == 80);
    CHECK_FALSE(came);
    transaction.commit();
  }
  CHECK(updated == 2);
  CHECK(store.client.get<Note>("held")->generation == 3);
  CHECK(store.client.get<Note>("new")->object.text == "text");
}

TEST_CASE("singles: versions of one object that come at the same time leave the newest",
          "[resource][inform][integration]") {
  Store store;
  constexpr int kCallers = 24;
  std::atomic<int> accepted{0};
  at_once(kCallers, [&](int caller) {
    for (int i = 0; i < 10; ++i) {
      const std::int64_t version = i * kCallers + caller + 1;
      const Informed informed = store.client.inform(User{"u1", std::to_string(version), version});
      if (informed.worked()) ++accepted;
    }
  });
  const auto stored = store.client.get<User>("u1");
  CHECK(stored->object.updated_at == kCallers * 10);
  CHECK(stored->object.name == std::to_string(kCallers * 10));
  CHECK(stored->generation == accepted);
}

TEST_CASE("singles: a database that goes away fails the calls and comes back for the next",
          "[resource][inform][integration]") {
  testing::PostgresServer server;
  migrate(server.connection_string());
  Client client(server.connection_string());
  client.inform(Note{"n1", "text"});
  server.kill();
  std::atomic<int> failed{0};
  at_once(8, [&](int caller) {
    try {
      client.inform(Note{"lost" + std::to_string(caller), "text"});
    } catch (const Error& error) {
      if (error.kind() == Kind::retry || error.kind() == Kind::in_doubt) ++failed;
    }
  });
  CHECK(failed == 8);
  server.start();
  at_once(8, [&](int caller) { client.inform(Note{"back" + std::to_string(caller), "text"}); });
  CHECK(client.list({.prefix = "back"}).resources.size() == 8);
}

}  // namespace dmm::resource
