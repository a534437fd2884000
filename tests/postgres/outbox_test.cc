// Goal: the outbox is made, changed, watched and cleaned safely, also by several programs at once.
// Method: a real server, and its catalogue afterwards.

#include <catch2/catch.hpp>

#include <thread>

#include "dmm/postgres/migrations.h"
#include "fixture.h"

namespace dmm::postgres {

TEST_CASE("outbox: programs that migrate at once make it once", "[postgres][outbox][integration]") {
  testing::PostgresServer server;
  Client client(server);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&server] { Outbox(server.connection_string()).migrate(); });
    }
  }
  CHECK(client.number("SELECT count(*) FROM dmm.migration") ==
        static_cast<std::int64_t>(migrations().size()));
  Outbox outbox(server.connection_string());
  CHECK(outbox.migrate() == migrations().back().version);
  CHECK(outbox.status().version == outbox.status().newest);
}

TEST_CASE("outbox: it goes away without a trace and can come again",
          "[postgres][outbox][integration]") {
  Database db;
  Outbox outbox(db.server.connection_string());
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria')");
  CHECK(outbox.migrate(0) == migrations().back().version);
  CHECK(db.client.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'dmm'") == 0);
  CHECK(db.client.number("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0);
  CHECK(db.client.number("SELECT count(*) FROM songs") == 1);
  CHECK(outbox.migrate(0) == 0);
  CHECK(outbox.status().version == 0);
  CHECK(code_of([&] { outbox.watch("public", "songs"); }) == "DMM-0410");
  CHECK(code_of([&] { outbox.migrate(99); }) == "DMM-0404");
  CHECK(outbox.migrate() == 0);
  outbox.watch("public", "songs");
}

TEST_CASE("outbox: the script for psql does what migrate does", "[postgres][outbox][integration]") {
  testing::PostgresServer server;
  Client client(server);
  client.exec(migration_script());
  Outbox outbox(server.connection_string());
  CHECK(outbox.migrate() == migrations().back().version);
}

TEST_CASE("outbox: one that is newer than the program is refused",
          "[postgres][outbox][integration]") {
  Database db;
  db.client.exec("INSERT INTO dmm.migration (version, name) VALUES (1000, 'future')");
  Outbox outbox(db.server.connection_string());
  Sink sink;
  CHECK(code_of([&] { outbox.migrate(); }) == "DMM-0411");
  CHECK(code_of([&] { outbox.watch("public", "songs"); }) == "DMM-0411");
  CHECK(code_of([&] { table(songs(db.server))->read(nullptr, sink); }) == "DMM-0411");
}

TEST_CASE("outbox: watching twice changes nothing and repairs triggers",
          "[postgres][outbox][integration]") {
  Database db;
  Outbox outbox(db.server.connection_string());
  const auto first = outbox.status().tables.at(0);
  CHECK(first.name == "public.songs");
  CHECK(first.told);
  CHECK(first.key == std::vector<std::string>{"id"});
  outbox.watch("public", "songs");
  CHECK(outbox.status().tables.at(0).id == first.id);
  db.client.exec("DROP TRIGGER dmm_truncate ON songs");
  CHECK_FALSE(outbox.status().tables.at(0).told);
  outbox.watch("public", "songs");
  CHECK(outbox.status().tables.at(0).told);
  CHECK(outbox.status().tables.at(0).id != first.id);
  CHECK(outbox.unwatch("public", "songs"));
  CHECK_FALSE(outbox.unwatch("public", "songs"));
  CHECK(outbox.status().tables.empty());
}

TEST_CASE("outbox: tables without a sound key or that lose rows silently are refused",
          "[postgres][outbox][integration]") {
  Database db;
  Outbox outbox(db.server.connection_string());
  const auto watching = [&](const std::string& table, std::vector<std::string> key = {}) {
    return code_of([&] { outbox.watch("public", table, {.key = std::move(key)}); });
  };
  db.client.exec(
      "CREATE TABLE keyless (a int); CREATE TABLE late (a int PRIMARY KEY DEFERRABLE);"
      "CREATE TABLE other (a int, b int NOT NULL, c int NOT NULL, UNIQUE (c, b), UNIQUE (a));"
      "CREATE UNIQUE INDEX ON other (b) WHERE b > 0; CREATE VIEW seen AS SELECT * FROM songs;"
      "CREATE UNLOGGED TABLE light (a int PRIMARY KEY)");
  CHECK(watching("keyless") == "DMM-0408");
  CHECK(watching("late") == "DMM-0408");
  CHECK(watching("other") == "DMM-0408");
  CHECK(watching("other", {"a"}) == "DMM-0408");
  CHECK(watching("other", {"b"}) == "DMM-0408");
  CHECK(watching("other", {"b", "c", "c"}) == "DMM-0408");
  CHECK(watching("other", {"nosuch"}) == "DMM-0408");
  CHECK(watching("other", {"b", "c"}) == "none");
  CHECK(watching("seen") == "DMM-0412");
  CHECK(watching("light") == "DMM-0412");
  CHECK(watching("nosuch") == "DMM-0407");
  CHECK(watching("songs\"; DROP TABLE songs; --") == "DMM-0407");
  CHECK(code_of([&] { outbox.watch("dmm", "change"); }) == "DMM-0412");
  CHECK(code_of([&] { outbox.watch("pg_catalog", "pg_class"); }) == "DMM-0412");
}

TEST_CASE("outbox: a table that others hold is not waited for without end",
          "[postgres][outbox][integration]") {
  Database db;
  db.client.exec("CREATE TABLE held (a int PRIMARY KEY)");
  Client holder(db.server);
  holder.exec("BEGIN; INSERT INTO held VALUES (1)");
  Outbox outbox(db.server.connection_string());
  CHECK(code_of([&] { outbox.watch("public", "held"); }) == "DMM-0112");
  holder.exec("COMMIT");
  CHECK(code_of([&] { outbox.watch("public", "held"); }) == "none");
}

TEST_CASE("outbox: what every reader has read is cleaned and no more",
          "[postgres][outbox][integration]") {
  Database db;
  TableOptions options = songs(db.server);
  options.clean = 20ms;
  auto slow = std::make_unique<Reader>(options, nullptr, 3);
  slow->loaded();
  options.reader = "other";
  Reader quick(options);
  quick.loaded();
  db.client.exec("INSERT INTO songs SELECT g::text, 't' FROM generate_series(1, 100) AS g");
  quick.wait_equal(db.client);
  wait_for("the slow reader", [&] { return slow->sink.count("row") == 3; });
  Outbox outbox(db.server.connection_string());
  outbox.clean();
  CHECK(db.client.number("SELECT count(*) FROM dmm.change") == 100);
  slow->reading->grant(1000);
  slow->wait_equal(db.client);
  wait_for("the outbox to be empty",
           [&] { return db.client.number("SELECT count(*) FROM dmm.change") == 0; });

  // The last loss stays, as evidence for those who come back.
  db.client.exec("TRUNCATE songs; TRUNCATE songs; INSERT INTO songs VALUES ('a', 'b')");
  wait_for("only the last truncate to be left", [&] {
    return db.client.number("SELECT count(*) FROM dmm.change") == 1 &&
           db.client.number("SELECT count(*) FROM dmm.change WHERE operation = 'truncate'") == 1;
  });
}

TEST_CASE("outbox: a reader that is not seen for long is forgotten and told so",
          "[postgres][outbox][integration]") {
  Database db;
  Reader reader(songs(db.server), nullptr, 0);
  reader.loaded();
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria'), ('b', 'Ballad')");
  wait_for("the batch to be begun",
           [&] { return db.client.number("SELECT marks FROM dmm.reader") >= 2; });
  db.client.exec("UPDATE dmm.reader SET seen_at = now() - interval '8 days'");
  Outbox outbox(db.server.connection_string());
  CHECK(outbox.status().readers.at(0).unread == 2);
  CHECK(outbox.clean() == 2);
  CHECK(outbox.status().readers.empty());
  reader.reading->grant(100);
  wait_for("the reading to begin anew", [&] { return reader.sink.count("loaded") == 2; });
  CHECK(reader.sink.count("restart") == 1);
  CHECK(reader.sink.last("doubt").find("forgotten") != std::string::npos);
  reader.wait_equal(db.client);
}

}  // namespace dmm::postgres
