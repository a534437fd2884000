// Goal: informing stores exactly what it says, in the transaction of the caller, and nothing else.
// Method: a client against a real database; nobody works.

#include "fixture.h"

#include <set>
#include <thread>

namespace dmm::resource {

namespace {

using Result = Informed::Result;

std::int64_t waiting(Database& db) {
  return db.number("SELECT count(*) FROM dmm.resource_outbox WHERE what = 'work'");
}

void set_synced(Database& db, const std::string& id, int attempt) {
  db.exec("UPDATE dmm.resource SET state = 'synced', synced_at = now(), attempt = " +
          std::to_string(attempt) + " WHERE id = '" + id + "'; DELETE FROM dmm.resource_outbox");
}

}  // namespace

TEST_CASE("inform: within a transaction it is seen at commit and gone after a rollback",
          "[resource][inform][integration]") {
  Store store;
  {
    pqxx::work transaction(store.db.connection());
    const Informed informed = store.client.inform_tx(transaction, User{"u1", "Ada", 1});
    CHECK(informed.result == Result::created);
    CHECK_FALSE(informed.already_exists());
    CHECK_FALSE(store.client.get<User>("u1"));
    transaction.abort();
  }
  CHECK_FALSE(store.client.get<User>("u1"));
  CHECK(waiting(store.db) == 0);
  {
    pqxx::work transaction(store.db.connection());
    store.client.inform_tx(transaction, User{"u1", "Ada", 1});
    transaction.commit();
  }
  const auto stored = store.client.get<User>("u1");
  REQUIRE(stored);
  CHECK(stored->state == State::scheduled);
  CHECK(stored->attempt == 0);
  CHECK_FALSE(stored->synced_at);
  CHECK(stored->object.name == "Ada");
  CHECK(stored->max_attempts == 10);
  CHECK(stored->metadata == json::object());
  CHECK(stored->tags.empty());
  CHECK(waiting(store.db) == 1);
}

TEST_CASE("inform: new content of a synced resource makes it scheduled and keeps its attempts",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(User{"u1", "Ada", 1}, {.tags = {{"old"}}});
  set_synced(store.db, "u1", 3);
  const auto before = store.client.get<User>("u1");
  const Informed again = store.client.inform(
      User{"u1", "Bob", 2},
      {.tags = {{"new", "tag-2"}}, .metadata = json{{"from", "test"}}, .max_attempts = 4});
  CHECK(again.already_exists());
  CHECK(again.result == Result::updated);
  const auto after = store.client.get<User>("u1");
  REQUIRE(after);
  CHECK(after->number == before->number);
  CHECK(after->generation == before->generation + 1);
  CHECK(after->state == State::scheduled);
  CHECK_FALSE(after->synced_at);
  CHECK(after->object.name == "Bob");
  CHECK(after->tags == std::vector<std::string>{"new", "tag-2"});
  CHECK(after->metadata == json{{"from", "test"}});
  CHECK(after->max_attempts == 4);
  CHECK(after->attempt == 3);
  CHECK(after->created_at == before->created_at);
  CHECK(waiting(store.db) == 1);
}

TEST_CASE("inform: an older version is refused and changes nothing",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(User{"u1", "from the webhook", 20});
  set_synced(store.db, "u1", 1);
  CHECK(store.client.inform(User{"u1", "from a slow list", 10}).result == Result::stale);
  CHECK(store.client.inform(User{"u1", "from a slow list", 10}, {.force = true}).result ==
        Result::stale);
  const auto stored = store.client.get<User>("u1");
  CHECK(stored->object.name == "from the webhook");
  CHECK(stored->state == State::synced);
  CHECK(waiting(store.db) == 0);
}

TEST_CASE("inform: content as it is stored is a no-op unless it is forced",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"n1", "text"});
  store.client.inform(User{"u1", "Ada", 1});
  set_synced(store.db, "n1", 1);
  set_synced(store.db, "u1", 1);
  CHECK(store.client.inform(Note{"n1", "text"}).result == Result::unchanged);
  CHECK(store.client.inform(User{"u1", "other name of the same version", 1}).result ==
        Result::unchanged);
  CHECK(waiting(store.db) == 0);
  CHECK(store.client.get<Note>("n1")->state == State::synced);
  CHECK(store.client.inform(Note{"n1", "text"}, {.force = true}).result == Result::updated);
  CHECK(store.client.get<Note>("n1")->state == State::scheduled);
  CHECK(waiting(store.db) == 1);
}

TEST_CASE("inform: the order of members does not make content new",
          "[resource][inform][integration]") {
  Store store;
  const auto bring = [&](const char* text) {
    store.db.exec(std::string("SELECT * FROM dmm.inform('[{\"n\":0,\"ns\":\"default\",\"kind\":"
                              "\"raw\",\"id\":\"r1\",\"object\":") +
                  text + "}]')");
  };
  bring(R"({"a":1,"b":2.0})");
  bring(R"({"b":2,"a":1.0})");
  CHECK(store.client.get({"raw", "r1"})->generation == 1);
}

TEST_CASE("inform: new tags of the same content are stored without a work",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"n1", "text"}, {.tags = {{"aaa"}}, .metadata = json{{"a", 1}}});
  set_synced(store.db, "n1", 1);
  CHECK(store.client.inform(Note{"n1", "text"}, {.tags = {{"bbb"}}}).result == Result::relabelled);
  const auto stored = store.client.get<Note>("n1");
  CHECK(stored->tags == std::vector<std::string>{"bbb"});
  CHECK(stored->metadata == json{{"a", 1}});
  CHECK(stored->state == State::synced);
  CHECK(waiting(store.db) == 0);
}

TEST_CASE("inform: one id in two namespaces is two resources", "[resource][inform][integration]") {
  Store store;
  CHECK(store.client.inform(Note{"e1", "of a"}, {.ns = "tenant-a"}).result == Result::created);
  CHECK(store.client.inform(Note{"e1", "of b"}, {.ns = "tenant-b"}).result == Result::created);
  CHECK(store.client.get<Note>("e1", "tenant-a")->object.text == "of a");
  CHECK(store.client.get<Note>("e1", "tenant-b")->object.text == "of b");
  CHECK_FALSE(store.client.get<Note>("e1"));
  CHECK(store.client.forget({"note", "e1", "tenant-a"}));
  CHECK(store.client.get<Note>("e1", "tenant-b"));
}

TEST_CASE("inform: many are answered one by one in their order",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(User{"u1", "Ada", 5});
  const std::vector<User> users{{"u1", "older", 4}, {"u2", "new", 1},  {"u1", "newer", 6},
                                {"u2", "newer", 2}, {"u1", "same", 6}, {"u3", "new", 1}};
  const auto answers = store.client.inform_many(std::span<const User>(users));
  std::vector<Result> results;
  for (const Informed& answer : answers) results.push_back(answer.result);
  CHECK(results == std::vector<Result>{Result::stale, Result::created, Result::updated,
                                       Result::updated, Result::unchanged, Result::created});
  CHECK(store.client.get<User>("u1")->object.name == "newer");
  CHECK(store.client.get<User>("u2")->object.name == "newer");
}

TEST_CASE("inform: thousands in one call are all there", "[resource][inform][integration]") {
  Store store;
  std::vector<Note> notes;
  for (int i = 0; i < 2'500; ++i) notes.push_back({"n" + std::to_string(i), "text"});
  const auto answers = store.client.inform_many(std::span<const Note>(notes));
  CHECK(answers.size() == notes.size());
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'scheduled'") == 2'500);
  CHECK(waiting(store.db) == 2'500);
  CHECK(store.client.inform_many(std::span<const Note>()).empty());
}

TEST_CASE("inform: one bad object among many leaves nothing behind",
          "[resource][inform][integration]") {
  Store store;
  std::vector<AnyObject> objects{erase(Note{"n1", "text"}), erase(Note{"", "no id"})};
  CHECK(code_of([&] { store.client.inform_many(objects); }) == "DMM-0803");
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 0);
  CHECK(code_of([&] { store.client.inform(Note{"n1", "x"}, {.tags = {{"no"}}}); }) == "DMM-0803");
  CHECK(code_of([&] { store.client.inform(Note{"n1", std::string("a\0b", 3)}); }) == "DMM-0803");
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource") == 0);
}

TEST_CASE("inform: ids of any text come back as they were", "[resource][inform][integration]") {
  Store store;
  for (const std::string& id : {std::string("'; DROP TABLE dmm.resource; --"), std::string("a/b"),
                                std::string("\"{}\\"), std::string("\xe2\x82\xac \n\t"),
                                std::string(255, 'x'), std::string("$1"), std::string("%s")}) {
    CAPTURE(id);
    CHECK(store.client.inform(Note{id, id}).result == Result::created);
    const auto stored = store.client.get<Note>(id);
    REQUIRE(stored);
    CHECK(stored->key.id == id);
    CHECK(stored->object.text == id);
  }
}

TEST_CASE("inform: many at once of the same objects make each of them once",
          "[resource][inform][integration]") {
  Store store;
  constexpr int kWriters = 6;
  constexpr int kVersions = 20;
  std::atomic<int> created{0};
  {
    std::vector<std::jthread> writers;
    for (int w = 0; w < kWriters; ++w) {
      writers.emplace_back([&, w] {
        for (int version = 1; version <= kVersions; ++version) {
          std::vector<User> users;
          for (int i = 0; i < 10; ++i) {
            const int id =
                w % 2 == 0 ? i : 9 - i;  // in both orders: they must not wait in a circle
            users.push_back({"u" + std::to_string(id), std::to_string(version), version});
          }
          for (const auto& answer : store.client.inform_many(std::span<const User>(users))) {
            if (answer.result == Result::created) ++created;
          }
        }
      });
    }
  }
  CHECK(created == 10);
  for (const auto& resource : store.client.list({.kind = "user"}).resources) {
    CHECK(resource.content.at("updated_at") == kVersions);
  }
  CHECK(store.db.number("SELECT max(generation) FROM dmm.resource") == kVersions);
}

TEST_CASE("inform: a deleted resource is brought back by newer content only",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(User{"u1", "Ada", 5});
  store.db.exec("UPDATE dmm.resource SET state = 'deleted', synced_at = now()");
  CHECK(store.client.inform(User{"u1", "late news", 5}).result == Result::deleted);
  CHECK(store.client.inform(User{"u1", "later news", 4}).result == Result::stale);
  CHECK(state_of(store.client, {"user", "u1"}) == State::deleted);
  CHECK(store.client.inform(User{"u1", "made again", 6}).result == Result::updated);
  CHECK(state_of(store.client, {"user", "u1"}) == State::scheduled);
}

TEST_CASE("client: invalidate expires what is synced and names any other state",
          "[resource][inform][integration]") {
  Store store;
  CHECK(code_of([&] { store.client.invalidate({"note", "n1"}); }) == "DMM-0801");
  store.client.inform(Note{"n1", "text"});
  try {
    store.client.invalidate(Note{"n1", ""});
    FAIL("a scheduled resource was invalidated");
  } catch (const Error& error) {
    CHECK(&error.code() == &code::resource_state);
    CHECK(error.message().find("scheduled") != std::string::npos);
  }
  CHECK(state_of(store.client, {"note", "n1"}) == State::scheduled);
  set_synced(store.db, "n1", 1);
  store.client.invalidate(Note{"n1", ""});
  CHECK(state_of(store.client, {"note", "n1"}) == State::expired);
  CHECK(waiting(store.db) == 1);
}

TEST_CASE("client: retry takes what is unwell with all its attempts",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"n1", "text"});
  CHECK(code_of([&] { store.client.retry({"note", "n1"}); }) == "DMM-0802");
  CHECK(code_of([&] { store.client.retry({"note", "n2"}); }) == "DMM-0801");
  for (const char* state : {"failing", "degraded", "deleted"}) {
    store.db.exec(std::string("UPDATE dmm.resource SET tries = 10, state = '") + state +
                  "', retry_at = now() + interval '1 day'");
    store.client.retry({"note", "n1"});
    const auto stored = store.client.get<Note>("n1");
    CHECK(stored->state == State::scheduled);
    CHECK(stored->tries == 0);
    CHECK_FALSE(stored->retry_at);
  }
  for (int i = 0; i < 1'200; ++i) store.client.inform(Note{"m" + std::to_string(i), "text"});
  store.db.exec("UPDATE dmm.resource SET state = 'degraded' WHERE id LIKE 'm%'");
  CHECK(store.client.retry_all({.kind = "note"}) == 1'200);
  CHECK(store.db.number("SELECT count(*) FROM dmm.resource WHERE state = 'degraded'") == 0);
}

TEST_CASE("client: a list is filtered and comes in pages without gaps",
          "[resource][inform][integration]") {
  Store store;
  std::vector<AnyObject> objects;
  for (int i = 0; i < 250; ++i) {
    InformOptions options;
    options.ns = i % 2 == 0 ? "even" : "odd";
    options.tags = {{i % 5 == 0 ? "fifth" : "other", "all"}};
    options.metadata = json{{"mod", i % 3}};
    objects.push_back(erase(Note{"n" + std::to_string(i), "x"}, options));
  }
  objects.push_back(erase(User{"n1", "x", 1}));
  store.client.inform_many(objects);
  std::vector<Key> keys;
  std::string after;
  int pages = 0;
  do {
    const Page page = store.client.list({.kind = "note"}, after, 30);
    for (const auto& resource : page.resources) keys.push_back(resource.key);
    after = page.next;
    ++pages;
  } while (!after.empty());
  CHECK(pages == 9);
  CHECK(keys.size() == 250);
  CHECK(std::set<Key>(keys.begin(), keys.end()).size() == 250);
  const auto count = [&](const Filter& filter) {
    return store.client.list(filter, "", 1'000).resources.size();
  };
  CHECK(count({.ns = "odd"}) == 125);
  CHECK(count({.tags = {"fifth"}}) == 50);
  CHECK(count({.tags = {"fifth", "all"}}) == 50);
  CHECK(count({.prefix = "n24"}) == 11);
  CHECK(count({.metadata = json{{"mod", 1}}}) == 83);
  CHECK(count({.states = {State::synced, State::failing}}) == 0);
  CHECK(count({.kind = "note", .states = {State::scheduled}}) == 250);
  CHECK(count({.missing = true}) == 0);
  CHECK(code_of([&] { store.client.list({}, "", 0); }) == "DMM-0404");
  CHECK(code_of([&] { store.client.list({}, "", 10'001); }) == "DMM-0404");
  CHECK(code_of([&] { store.client.list({}, "nonsense", 1); }) == "DMM-0404");
  CHECK(count({.prefix = "' OR true --"}) == 0);
}

TEST_CASE("client: settings of namespaces are replaced as they are set",
          "[resource][inform][integration]") {
  Store store;
  store.client.set_namespace("crm", {.max_workers = 3, .expiry = 60s});
  store.client.set_namespace("crm", {.expiry = 500ms, .deleted_retention = std::nullopt});
  const auto all = store.client.namespaces();
  REQUIRE(all.size() == 1);
  CHECK(all.at("crm") == NamespaceOptions{.expiry = 500ms, .deleted_retention = std::nullopt});
  CHECK(code_of([&] { store.client.set_namespace("crm", {.expiry = 0ms}); }) == "DMM-0404");
  CHECK(code_of([&] { store.client.set_namespace("crm", {.max_workers = -1}); }) == "DMM-0404");
  CHECK(code_of([&] { store.client.set_namespace("C R M", {}); }) == "DMM-0803");
}

TEST_CASE("client: a database without the tables or without a server is named as such",
          "[resource][inform][integration]") {
  Store store;
  store.db.exec("DROP SCHEMA dmm CASCADE");
  Client client(store.connection());
  CHECK(code_of([&] { client.inform(Note{"n1", "x"}); }) == "DMM-0804");
  Client nobody("host=127.0.0.1 port=1 connect_timeout=2");
  CHECK(code_of([&] { nobody.inform(Note{"n1", "x"}); }) == "DMM-0110");
  CHECK(code_of([&] { Client("no such = connection ="); }) == "DMM-0404");
}

TEST_CASE("client: connections that the server ended are replaced unnoticed",
          "[resource][inform][integration]") {
  Store store;
  store.client.inform(Note{"n1", "x"});
  store.db.exec(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ="
      " 'dmm resource'");
  wait_for("the backend to end", [&] {
    return store.db.number(
               "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
               " 'dmm resource'") == 0;
  });
  CHECK(store.client.inform(Note{"n2", "x"}).result == Result::created);
}

TEST_CASE("client: what a transaction of the user means is as its role has it",
          "[resource][inform][integration]") {
  Store store;
  store.db.exec("CREATE TABLE public.ledger (id text)");
  pqxx::work transaction(store.db.connection());
  transaction.exec("SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'SQL, DMY'");
  transaction.exec("INSERT INTO ledger VALUES ('1')");
  AnyObject object = erase(Note{"n1", "x"});
  object.created_at = Time(1'700'000'000s);
  store.client.inform_tx(transaction, object);
  transaction.commit();
  CHECK(store.client.get({"note", "n1"})->external_created_at == Time(1'700'000'000s));
}

}  // namespace dmm::resource
