// Goal: a reading tells the rows of a table and then each change, as they are.
// Method: a real server; the rows told are compared with the table.

#include <catch2/catch.hpp>

#include "fixture.h"

namespace dmm::postgres {

TEST_CASE("table: rows are loaded and inserts updates deletes and key changes follow",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria'), ('b', NULL)");
  Reader reader(songs(db.server));
  reader.loaded();
  CHECK(reader.sink.rows() ==
        std::map<std::string, json>{{"a", {{"id", "a"}, {"title", "Aria"}}},
                                    {"b", {{"id", "b"}, {"title", nullptr}}}});
  db.client.exec("INSERT INTO songs VALUES ('c', 'Canon')");
  db.client.exec("UPDATE songs SET title = 'Ballad' WHERE id = 'b'");
  db.client.exec("UPDATE songs SET id = 'd' WHERE id = 'a'");
  db.client.exec("DELETE FROM songs WHERE id = 'c'");
  reader.wait_equal(db.client);
  CHECK(reader.sink.history("a").back() == nullptr);
  CHECK(reader.sink.history("c") == std::vector<json>{{{"id", "c"}, {"title", "Canon"}}, nullptr});
  CHECK(reader.sink.history("d") == std::vector<json>{{{"id", "d"}, {"title", "Aria"}}});
  CHECK(reader.sink.count("restart") == 0);
  CHECK(reader.sink.count("doubt") == 0);
  CHECK(reader.reading->baseline().at("rows") == 2);
}

TEST_CASE("table: an empty table is loaded without a grant and nothing is told before one",
          "[postgres][table][integration]") {
  Database db;
  Reader empty(songs(db.server), nullptr, 0);
  empty.loaded();

  db.client.exec("INSERT INTO songs SELECT g::text, 't' FROM generate_series(1, 50) AS g");
  TableOptions options = songs(db.server);
  options.reader = "second";
  Reader full(options, nullptr, 0);
  full.reading->grant(7);
  wait_for("seven rows", [&] { return full.sink.count("row") == 7; });
  full.reading->grant(42);
  wait_for("the granted rows", [&] { return full.sink.count("row") == 49; });
  CHECK_FALSE(becomes_true([&] { return full.sink.count("row") > 49; }, 300ms));
  CHECK(full.sink.count("loaded") == 0);
  CHECK(full.reading->baseline() == nullptr);
  full.reading->grant(1);
  full.loaded();
  CHECK(full.sink.count("row") == 50);
  CHECK(empty.sink.count("row") == 0);
}

TEST_CASE("table: what was not told yet is counted", "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria')");
  const auto source = table(songs(db.server));
  TableOptions options = songs(db.server);
  options.poll = 50ms;
  std::string position;
  {
    Reader reader(options);
    reader.loaded();
    db.client.exec("INSERT INTO songs VALUES ('b', 'Ballad')");
    reader.wait_equal(db.client);
    position = reader.sink.events().back().position;
  }
  REQUIRE(source->backlog(position));
  CHECK(source->backlog(position)->rows == 0);
  CHECK_FALSE(source->backlog(position)->oldest);

  const auto before = std::chrono::system_clock::now() - 1s;
  Client other(db.server);
  other.exec("BEGIN; INSERT INTO songs VALUES ('held', 'back')");
  db.client.exec("UPDATE songs SET title = 'Canon' WHERE id = 'a'");
  db.client.exec("DELETE FROM songs WHERE id = 'b'");
  CHECK(source->backlog(position)->rows == 2);  // what is not committed is nobody's news
  CHECK(source->backlog(position)->oldest > before);
  other.exec("COMMIT");
  CHECK(source->backlog(position)->rows == 3);

  CHECK_FALSE(source->backlog(""));
  CHECK_FALSE(source->backlog("of another source#1"));
}

TEST_CASE("table: keys and documents are the same when loaded as when told",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec(
      "CREATE SCHEMA \"my \"\"schema\"; CREATE TABLE \"my \"\"schema\".\"Tab le'; %s {} \xC3\xBC\" "
      "("
      " \"t\" text, \"a \"\"%1$s\" numeric(30,2), \"\xC3\xA4'\" timestamptz, b bytea, big bigint,"
      " j json, PRIMARY KEY (\"t\", \"a \"\"%1$s\", \"\xC3\xA4'\"))");
  const std::string schema = "my \"schema";
  const std::string name = "Tab le'; %s {} \xC3\xBC";
  const std::string quoted = "\"my \"\"schema\".\"Tab le'; %s {} \xC3\xBC\"";
  Outbox(db.server.connection_string()).watch(schema, name);
  TableOptions options = songs(db.server);
  options.schema = schema;
  options.table = name;
  options.reader = "first \"'; {}";
  Reader tailing(options);
  tailing.loaded();
  // The session of the writer sees times and bytes in another way than the reader.
  db.client.exec("SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape'");
  db.client.exec("INSERT INTO " + quoted +
                 " VALUES ('x,\"', 12345678901234567890.10, '2026-01-02 03:04:05+00', '\\x00ff',"
                 " 9223372036854775807, '{\"a\":\"\\u0000\"}')");
  wait_for("the row", [&] { return tailing.sink.count("row") == 1; });
  options.reader = "second";
  Reader loading(options);
  loading.loaded();
  const auto told = tailing.sink.events().back();
  const auto loaded = loading.sink.events().front();
  CHECK(told.text == "[\"x,\\\"\",12345678901234567890.10,\"2026-01-02T03:04:05+00:00\"]");
  CHECK(told.text == loaded.text);
  CHECK(told.document == loaded.document);
  CHECK(told.document.find("\"b\":\"\\\\x00ff\",\"big\":9223372036854775807") != std::string::npos);
  // What a view cannot take is delivered as it is.
  CHECK(told.document.find("\\u0000") != std::string::npos);

  db.client.exec("UPDATE " + quoted + " SET t = 'y'");
  db.client.exec("DELETE FROM " + quoted);
  wait_for("both keys to go", [&] { return tailing.sink.count("row") == 4; });
  CHECK(tailing.sink.rows().empty());
  CHECK(tailing.sink.count("restart") == 0);
}

TEST_CASE("table: rows too large or too deep are delivered", "[postgres][table][integration]") {
  Database db;
  db.client.exec("CREATE TABLE deep (id int PRIMARY KEY, j jsonb, t text)");
  Outbox(db.server.connection_string()).watch("public", "deep");
  TableOptions options = songs(db.server);
  options.table = "deep";
  Reader reader(options);
  reader.loaded();
  db.client.exec(
      "INSERT INTO deep VALUES (1, (repeat('[', 500) || repeat(']', 500))::jsonb, 'x'),"
      " (2, '1', repeat('x', 3000000))");
  wait_for("both rows", [&] { return reader.sink.rows().size() == 2; });
  CHECK(reader.sink.rows().at("2").at("t").get<std::string>().size() == 3'000'000);
  options.reader = "other";
  Reader other(options);
  other.loaded();
  CHECK(other.sink.rows() == reader.sink.rows());
}

TEST_CASE("table: a truncated table is a doubt and is read anew",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria'), ('b', 'Ballad')");
  Reader reader(songs(db.server));
  reader.loaded();
  const json baseline = reader.reading->baseline();
  db.client.exec("BEGIN; TRUNCATE songs; INSERT INTO songs VALUES ('c', 'Canon'); COMMIT");
  wait_for("the second load", [&] { return reader.sink.count("loaded") == 2; });
  CHECK(reader.sink.count("restart") == 1);
  CHECK(reader.sink.last("doubt").find("truncate") != std::string::npos);
  reader.wait_equal(db.client);

  SECTION("and one that was truncated while nobody read is in doubt before it is loaded") {
    reader.reading.reset();
    Reader later(songs(db.server), baseline);
    later.loaded();
    const auto events = later.sink.events();
    REQUIRE(events.size() >= 3);
    CHECK(events[events.size() - 2].kind == "doubt");
    CHECK(events.back().kind == "loaded");
    CHECK(later.sink.last("doubt").find("truncate at") != std::string::npos);
  }
}

TEST_CASE("table: rows that went without being deleted are a doubt at the next reading",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs SELECT g::text, 't' FROM generate_series(1, 10) AS g");
  auto reader = std::make_unique<Reader>(songs(db.server));
  reader->loaded();
  db.client.exec("DELETE FROM songs WHERE id = '1'; INSERT INTO songs VALUES ('n', 'new')");
  reader->wait_equal(db.client);
  const json baseline = reader->reading->baseline();
  CHECK(baseline.at("rows") == 10);
  reader.reset();

  SECTION("deleted rows are not") {
    db.client.exec("DELETE FROM songs WHERE id < '5'; UPDATE songs SET id = id || 'x'");
    Reader later(songs(db.server), baseline);
    later.loaded();
    CHECK(later.sink.count("doubt") == 0);
    CHECK(later.reading->baseline().at("rows") == later.sink.rows().size());
  }
  SECTION("rows that triggers did not see are") {
    db.client.exec(
        "ALTER TABLE songs DISABLE TRIGGER ALL; DELETE FROM songs WHERE id > '5';"
        "ALTER TABLE songs ENABLE TRIGGER ALL");
    Reader later(songs(db.server), baseline);
    later.loaded();
    CHECK(later.sink.last("doubt").find("should be") != std::string::npos);
  }
  SECTION("a table watched anew is") {
    Outbox outbox(db.server.connection_string());
    CHECK(outbox.unwatch("public", "songs"));
    outbox.watch("public", "songs");
    Reader later(songs(db.server), baseline);
    later.loaded();
    CHECK(later.sink.last("doubt").find("watched all the time") != std::string::npos);
  }
  SECTION("a reader that was forgotten is") {
    db.client.exec("DELETE FROM dmm.reader");
    Reader later(songs(db.server), baseline);
    later.loaded();
    CHECK(later.sink.last("doubt").find("forgotten") != std::string::npos);
  }
  SECTION("a database that was restored to an earlier state is") {
    db.client.exec("UPDATE dmm.reader SET marks = 0");
    Reader later(songs(db.server), baseline);
    later.loaded();
    CHECK(later.sink.last("doubt").find("earlier state") != std::string::npos);
  }
  SECTION("another cluster is") {
    db.client.exec("UPDATE dmm.origin SET system_identifier = 1");
    json other = baseline;
    other["system"] = "1";
    Reader later(songs(db.server), other);
    later.loaded();
    CHECK(later.sink.last("doubt").find("another database") != std::string::npos);
    CHECK(db.client.number("SELECT count(*) FROM dmm.change") == 0);
  }
  SECTION("a baseline that is none is") {
    for (const json& bad : {json(7), json::object(), json{{"snapshot", "'; DROP"}}}) {
      Reader later(songs(db.server), bad);
      later.loaded();
      CHECK(later.sink.last("doubt").find("cannot be understood") != std::string::npos);
    }
  }
}

TEST_CASE("table: columns that change are no doubt but are read anew",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria')");
  TableOptions options = songs(db.server);
  options.poll = 50ms;
  Reader reader(options);
  reader.loaded();
  db.client.exec("ALTER TABLE songs ADD COLUMN year int DEFAULT 1741");
  reader.wait_equal(db.client);
  CHECK(reader.sink.rows().at("a").at("year") == 1741);
  CHECK(reader.sink.count("doubt") == 0);
  CHECK(reader.sink.count("restart") == 1);
}

TEST_CASE(
    "table: a key column that is renamed fails no write and is a doubt until it is watched anew",
    "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', 'Aria')");
  Reader reader(songs(db.server));
  reader.loaded();
  db.client.exec("ALTER TABLE songs RENAME COLUMN id TO name");
  db.client.exec("INSERT INTO songs VALUES ('b', 'Ballad')");
  db.client.exec("DELETE FROM songs WHERE name = 'a'");
  CHECK(db.client.number("SELECT count(*) FROM dmm.change WHERE operation = 'lost'") == 2);
  wait_for("a doubt", [&] { return reader.sink.count("doubt") > 0; });
  CHECK(reader.sink.rows().count("a") == 1);
  Outbox(db.server.connection_string()).watch("public", "songs");
  reader.wait_equal(db.client, "SELECT name, row_to_json(t.*)::text FROM songs AS t");
}

TEST_CASE("table: a large table and a large transaction are streamed and told in full",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs SELECT g::text, 't' FROM generate_series(1, 20000) AS g");
  Reader reader(songs(db.server));
  reader.loaded();
  CHECK(reader.sink.rows().size() == 20'000);
  db.client.exec("UPDATE songs SET title = 'u'");
  wait_for(
      "all changes", [&] { return reader.sink.count("row") == 40'000; }, 60s);
  reader.wait_equal(db.client);
}

TEST_CASE("table: what the partitions of a table hold and move is told of the table",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec(
      "CREATE TABLE parts (id int, zone int, primary key (id, zone)) PARTITION BY LIST (zone);"
      "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);"
      "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);"
      "INSERT INTO parts VALUES (1, 1), (2, 2)");
  Outbox outbox(db.server.connection_string());
  outbox.watch("public", "parts");
  CHECK(code_of([&] { outbox.watch("public", "parts_1"); }) == "DMM-0412");
  TableOptions options = songs(db.server);
  options.table = "parts";
  Reader reader(options);
  reader.loaded();
  db.client.exec(
      "UPDATE parts SET zone = 2 WHERE id = 1; INSERT INTO parts_1 VALUES (3, 1);"
      "DELETE FROM parts_2 WHERE id = 2");
  reader.wait_equal(
      db.client, "SELECT '[' || id || ',' || zone || ']', row_to_json(t.*)::text FROM parts AS t");
  CHECK(reader.sink.count("restart") == 0);
  CHECK(reader.sink.rows().size() == 2);
}

TEST_CASE("table: what cannot be read is refused with its code", "[postgres][table][integration]") {
  Database db;
  Outbox outbox(db.server.connection_string());
  Sink sink;
  const auto opening = [&](auto change) {
    TableOptions options = songs(db.server);
    change(options);
    return code_of([&] { table(options)->read(nullptr, sink); });
  };
  CHECK(opening([](TableOptions&) {}) == "none");
  CHECK(opening([](TableOptions& o) { o.table = "nosuch"; }) == "DMM-0407");
  CHECK(opening([](TableOptions& o) { o.schema = "songs; --"; }) == "DMM-0407");
  CHECK(opening([](TableOptions& o) { o.key = {"title"}; }) == "DMM-0404");
  CHECK(opening([](TableOptions& o) { o.table = ""; }) == "DMM-0404");
  CHECK(opening([](TableOptions& o) { o.table = std::string("songs\0x", 7); }) == "DMM-0404");
  CHECK(opening([](TableOptions& o) { o.reader = ""; }) == "DMM-0404");
  CHECK(opening([](TableOptions& o) { o.poll = 0ms; }) == "DMM-0404");
  CHECK(opening([](TableOptions& o) { o.connection = "host=127.0.0.1 port=1"; }) == "DMM-0110");
  CHECK(opening([](TableOptions& o) { o.connection += " dbname=nosuch"; }) == "DMM-0111");
  db.client.exec("CREATE TABLE plain (id int PRIMARY KEY)");
  CHECK(opening([](TableOptions& o) { o.table = "plain"; }) == "DMM-0409");
  db.client.exec("ALTER TABLE songs DISABLE TRIGGER dmm_row");
  CHECK(opening([](TableOptions&) {}) == "DMM-0409");
  outbox.watch("public", "songs");
  CHECK(opening([](TableOptions&) {}) == "none");

  TableOptions secret = songs(db.server);
  secret.connection = "postgresql://u:hidden@[::bad";
  try {
    table(secret);
    FAIL("taken");
  } catch (const std::exception& error) {
    CHECK(std::string(error.what()).find("hidden") == std::string::npos);
  }
  CHECK(opening([](TableOptions& o) { o.connection += " password=hidden dbname=nosuch"; }) ==
        "DMM-0111");
}

TEST_CASE("table: a role with the rights of the guide can read and no less",
          "[postgres][table][integration]") {
  Database db;
  db.client.exec("CREATE ROLE app LOGIN; INSERT INTO songs VALUES ('a', 'Aria')");
  TableOptions options = songs(db.server);
  options.connection += " user=app";
  Sink sink;
  CHECK(code_of([&] { table(options)->read(nullptr, sink); }) == "DMM-0111");
  db.client.exec(
      "GRANT USAGE ON SCHEMA dmm TO app;"
      "GRANT SELECT ON ALL TABLES IN SCHEMA dmm TO app;"
      "GRANT INSERT, UPDATE ON dmm.reader TO app;"
      "GRANT EXECUTE ON FUNCTION dmm.adopt(), dmm.clean(integer, interval) TO app;"
      "GRANT SELECT ON songs TO app");
  options.clean = 50ms;
  Reader reader(options);
  reader.loaded();
  db.client.exec("INSERT INTO songs VALUES ('b', 'Ballad')");
  reader.wait_equal(db.client);
  // A role that only writes the table needs no right on the outbox.
  db.client.exec("CREATE ROLE writer LOGIN; GRANT ALL ON songs TO writer");
  Client writer(db.server, "user=writer");
  writer.exec("UPDATE songs SET title = 'x', id = 'z' WHERE id = 'a'");
  writer.exec("BEGIN; SELECT 1 FROM songs FOR UPDATE; UPDATE songs SET title = 'y'; COMMIT");
  reader.wait_equal(db.client);
  CHECK(reader.sink.count("restart") == 0);
  CHECK_THROWS(writer.exec("SELECT * FROM dmm.change"));

  // Rows hidden by row-level security are never taken for rows that are gone.
  db.client.exec("ALTER TABLE songs ENABLE ROW LEVEL SECURITY");
  options.reader = "other";
  Reader hidden(options);
  CHECK_FALSE(becomes_true([&] { return hidden.sink.count("loaded") > 0; }, 500ms));
}

}  // namespace dmm::postgres
