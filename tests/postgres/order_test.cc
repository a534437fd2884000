// Goal: changes are told in the order of commits for every row, whatever the order of their ids,
// none is lost and none is told twice.
// Method: transactions held open and committed in chosen orders, and a storm against an oracle.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>
#include <thread>

#include "fixture.h"

namespace dmm::postgres {

TEST_CASE("order: a transaction that commits later with smaller ids is told later and not lost",
          "[postgres][order][integration]") {
  Database db;
  Reader reader(songs(db.server));
  reader.loaded();
  Client first(db.server);
  Client second(db.server);
  first.exec("BEGIN");
  first.exec("INSERT INTO songs VALUES ('early', 'by id')");
  second.exec("INSERT INTO songs VALUES ('late', 'by id')");
  wait_for("the transaction that commits first",
           [&] { return reader.sink.rows().count("late") == 1; });
  CHECK(reader.sink.rows().count("early") == 0);
  first.exec("COMMIT");
  wait_for("the other", [&] { return reader.sink.rows().count("early") == 1; });
  CHECK(reader.sink.count("row") == 2);
}

TEST_CASE("order: a transaction that stays open holds up nobody",
          "[postgres][order][integration]") {
  Database db;
  Client slow(db.server);
  slow.exec("BEGIN");
  slow.exec("INSERT INTO songs VALUES ('slow', 'x')");
  Reader reader(songs(db.server));
  reader.loaded();
  for (int i = 0; i < 20; ++i) {
    db.client.exec("INSERT INTO songs VALUES ('" + std::to_string(i) + "', 'x')");
    wait_for("a row", [&] { return reader.sink.rows().count(std::to_string(i)) == 1; });
  }
  slow.exec("UPDATE songs SET title = 'y' WHERE id = 'slow'");
  slow.exec("COMMIT");
  reader.wait_equal(db.client);
  CHECK(reader.sink.history("slow").size() == 2);
  CHECK(reader.sink.count("row") == 22);
}

TEST_CASE("order: what a transaction or savepoint took back is not told",
          "[postgres][order][integration]") {
  Database db;
  Reader reader(songs(db.server));
  reader.loaded();
  db.client.exec(
      "BEGIN; INSERT INTO songs VALUES ('a', '1'); SAVEPOINT s; UPDATE songs SET title = '2';"
      " INSERT INTO songs VALUES ('b', '1'); ROLLBACK TO s; SAVEPOINT t;"
      " UPDATE songs SET title = '3'; RELEASE t; COMMIT");
  db.client.exec("BEGIN; INSERT INTO songs VALUES ('c', '1'); ROLLBACK");
  reader.wait_equal(db.client);
  CHECK(reader.sink.history("a").size() == 2);
  CHECK(reader.sink.history("b").empty());
  CHECK(reader.sink.history("c").empty());
}

TEST_CASE("order: a prepared transaction is told when it is committed",
          "[postgres][order][integration]") {
  Database db({.settings = {"max_prepared_transactions=5"}});
  Outbox outbox(db.server.connection_string());
  outbox.unwatch("public", "songs");
  outbox.watch("public", "songs", {.key = {"id"}, .notify = false});
  TableOptions options = songs(db.server);
  options.poll = 50ms;
  Reader reader(options);
  reader.loaded();
  db.client.exec("BEGIN; INSERT INTO songs VALUES ('p', '1'); PREPARE TRANSACTION 'x'");
  db.client.exec("INSERT INTO songs VALUES ('q', '1')");
  wait_for("the other row", [&] { return reader.sink.rows().count("q") == 1; });
  CHECK(reader.sink.rows().count("p") == 0);
  db.client.exec("COMMIT PREPARED 'x'");
  reader.wait_equal(db.client);
  CHECK(reader.sink.count("row") == 2);
}

TEST_CASE("order: what triggers of the user do to the same rows is told last",
          "[postgres][order][integration]") {
  Database db;
  // For each row of a statement, changes the next one, brings back what was deleted, and writes its
  // own row again; it fires before the trigger of dmm.
  db.client.exec(
      "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
      " IF pg_trigger_depth() > 1 THEN RETURN NULL; END IF;"
      " IF TG_OP = 'UPDATE' THEN"
      "  UPDATE songs SET title = 'meddled by ' || NEW.id WHERE id > NEW.id;"
      "  UPDATE songs SET title = 'own' WHERE id = NEW.id;"
      " ELSE INSERT INTO songs SELECT g, 'back' FROM unnest(ARRAY['a', 'b', 'c']) AS g"
      "  ON CONFLICT DO NOTHING; END IF;"
      " RETURN NULL; END $$;"
      "CREATE TRIGGER \"!first\" AFTER UPDATE OR DELETE ON songs FOR EACH ROW"
      " EXECUTE FUNCTION meddle();"
      "INSERT INTO songs VALUES ('a', '1'), ('b', '1'), ('c', '1')");
  Reader reader(songs(db.server));
  reader.loaded();
  db.client.exec("UPDATE songs SET title = '2'");
  reader.wait_equal(db.client);
  CHECK(reader.sink.rows().at("c").at("title") == "own");
  db.client.exec("DELETE FROM songs");
  wait_for("what came back",
           [&] { return reader.sink.rows().at("c").value("title", "") == "back"; });
  reader.wait_equal(db.client);
  CHECK(reader.sink.rows().size() == 3);
  reader.reading.reset();
  Reader later(songs(db.server), json{});
  later.loaded();
  CHECK(later.sink.count("doubt") == 0);
}

TEST_CASE("order: keys that move along in one statement end where the table ends",
          "[postgres][order][integration]") {
  Database db;
  db.client.exec(
      "CREATE TABLE n (id int PRIMARY KEY, v int);"
      "INSERT INTO n SELECT g, g FROM generate_series(100, 1, -1) AS g");
  Outbox(db.server.connection_string()).watch("public", "n");
  TableOptions options = songs(db.server);
  options.table = "n";
  Reader reader(options);
  reader.loaded();
  db.client.exec("UPDATE n SET id = id + 1");
  reader.wait_equal(db.client, "SELECT id::text, row_to_json(t.*)::text FROM n AS t");
  CHECK(reader.sink.rows().count("1") == 0);
}

namespace {

std::uint64_t seed() {
  const char* given = std::getenv("DMM_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

// One of the storm's writers: short and longer transactions, with savepoints and rollbacks. Each
// write of a row increments its version, so that the order of commits of a row shows in the row.
void write_storm(const testing::PostgresServer& server, std::uint64_t own_seed, int transactions) {
  std::mt19937_64 random(own_seed);
  Client client(server);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  for (int i = 0; i < transactions; ++i) {
    try {
      client.exec("BEGIN");
      const auto statements = 1 + below(4);
      for (std::uint64_t s = 0; s < statements; ++s) {
        const std::string id = std::to_string(below(40));
        if (below(5) == 0) client.exec("SAVEPOINT s");
        switch (below(6)) {
          case 0:
            client.exec("DELETE FROM v WHERE id = " + id);
            break;
          case 1:
            client.exec("UPDATE v SET id = 40 + " + id +
                        ", version = nextval('version') WHERE id = " + id +
                        " AND NOT EXISTS (SELECT FROM v WHERE id = 40 + " + id + ")");
            break;
          case 2:
            client.exec("UPDATE v SET version = nextval('version') WHERE id % 7 = " + id + " % 7");
            break;
          default:
            client.exec("INSERT INTO v VALUES (" + id +
                        ", nextval('version')) ON CONFLICT (id)"
                        " DO UPDATE SET version = nextval('version')");
        }
        if (below(8) == 0) client.exec("SAVEPOINT s; ROLLBACK TO s");
      }
      client.exec(below(10) == 0 ? "ROLLBACK" : "COMMIT");
    } catch (const pqxx::failure&) {  // a deadlock or a key that came to be: part of the storm
      client.exec("ROLLBACK");
    }
  }
}

}  // namespace

TEST_CASE("order: a storm of transactions ends where the table ends with each row in order",
          "[postgres][order][integration]") {
  const std::uint64_t first_seed = seed();
  INFO("DMM_SEED=" << first_seed);
  Database db({.settings = {"deadlock_timeout=20ms"}});
  db.client.exec("CREATE SEQUENCE version; CREATE TABLE v (id int PRIMARY KEY, version bigint)");
  Outbox(db.server.connection_string()).watch("public", "v");
  TableOptions options = songs(db.server);
  options.table = "v";
  options.clean = 20ms;  // the outbox is cleaned under the reader's feet
  Reader reader(options);
  reader.loaded();
  {
    std::vector<std::jthread> writers;
    for (std::uint64_t i = 0; i < 8; ++i) {
      writers.emplace_back([&db, own = first_seed + i] { write_storm(db.server, own, 125); });
    }
  }
  const std::string query = "SELECT id::text, row_to_json(t.*)::text FROM v AS t";
  reader.wait_equal(db.client, query, 60s);
  CHECK(reader.sink.count("restart") == 0);
  CHECK(reader.sink.count("doubt") == 0);
  // A version is drawn while its row is locked or does not exist, so it grows with every commit.
  std::map<std::string, std::int64_t> versions;
  for (const auto& event : reader.sink.events()) {
    if (event.kind != "row" || event.deleted) continue;
    const auto version = json::parse(event.document).at("version").get<std::int64_t>();
    CAPTURE(event.text, version);
    // An insert that waited for another one drew its number before it waited.
    if (versions.count(event.text) != 0) CHECK(version != versions[event.text]);
    versions[event.text] = version;
  }
  CHECK(reader.reading->baseline().at("rows") == reader.sink.rows().size());
  wait_for("the outbox to be cleaned",
           [&] { return db.client.number("SELECT count(*) FROM dmm.change") == 0; });
}

}  // namespace dmm::postgres
