// Goal: whatever happens to server and connection, no change is lost, none is told twice or out of
// order, and nothing is told that a crash undid.
// Method: servers stopped and killed, backends ended, tables dropped, while rows change.

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "fixture.h"

namespace dmm::postgres {

namespace {

/// Ends the backends of readings.
void cut_readings(Client& client) {
  client.exec(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ="
      " 'dmm test'");
}

/// Whether no version of a row was told after a later one or twice; each is written once.
bool told_once_in_order(const Sink& sink) {
  std::map<std::string, int> last;
  for (const auto& event : sink.events()) {
    if (event.kind != "row" || event.deleted) continue;
    const int version = std::stoi(json::parse(event.document).at("title").get<std::string>());
    if (last.count(event.text) != 0 && version <= last[event.text]) return false;
    last[event.text] = version;
  }
  return true;
}

}  // namespace

TEST_CASE("faults: a server that restarts is read on without loss or repetition",
          "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', '1')");
  Reader reader(songs(db.server));
  reader.loaded();
  for (const bool crash : {false, true}) {
    Client(db.server).exec("UPDATE songs SET title = (title::int + 1)::text");
    crash ? db.server.kill() : db.server.stop();
    db.server.start();
    wait_until_up(db.server);
    Client client(db.server);
    client.exec("UPDATE songs SET title = (title::int + 1)::text");
    reader.wait_equal(client);
  }
  CHECK(reader.sink.history("a").size() == 5);
  CHECK(told_once_in_order(reader.sink));
  CHECK(reader.sink.count("restart") == 0);
  CHECK(reader.sink.count("doubt") == 0);
}

TEST_CASE("faults: backends that are ended again and again lose and repeat nothing",
          "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs SELECT g::text, '0' FROM generate_series(1, 50) AS g");
  Reader reader(songs(db.server), nullptr, 50);
  reader.loaded();
  {
    std::jthread granting([&reader](std::stop_token stop) {
      // Few rows at a time, so that batches are cut in their midst.
      while (!stop.stop_requested()) {
        const auto before = reader.sink.count("row");
        reader.reading->grant(7);
        becomes_true([&] { return reader.sink.count("row") > before; }, 50ms);
      }
    });
    Client cutter(db.server);
    for (int round = 0; round < 30; ++round) {
      db.client.exec("UPDATE songs SET title = (title::int + 1)::text");
      cut_readings(cutter);
    }
    reader.wait_equal(db.client, "SELECT id, row_to_json(t.*)::text FROM public.songs AS t", 60s);
  }
  CHECK(told_once_in_order(reader.sink));
  CHECK(reader.sink.count("row") == 50 + 50 * 30);
  CHECK(reader.sink.count("restart") == 0);
}

TEST_CASE("faults: a load that is cut is begun anew", "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs SELECT g::text, '0' FROM generate_series(1, 50) AS g");
  Reader reader(songs(db.server), nullptr, 10);
  wait_for("a part of the rows", [&] { return reader.sink.count("row") == 10; });
  db.client.exec("DELETE FROM songs WHERE id IN (SELECT id FROM songs LIMIT 5)");
  cut_readings(db.client);
  reader.reading->grant(1'000);
  reader.loaded();
  CHECK(reader.sink.count("restart") == 1);
  CHECK(reader.sink.count("doubt") == 0);
  reader.wait_equal(db.client);
}

TEST_CASE("faults: a server that crashes while many commit leaves reader and table equal",
          "[postgres][faults][integration]") {
  // Commits that are not waited for can be undone by the crash; none of them must be told.
  const auto synchronous = GENERATE(true, false);
  CAPTURE(synchronous);
  testing::PostgresServer server;
  {
    Outbox outbox(server.connection_string());
    outbox.migrate();
    Client(server).exec(
        "CREATE TABLE public.songs (id text PRIMARY KEY, title text);"
        "INSERT INTO songs SELECT g::text, '0' FROM generate_series(1, 20) AS g");
    outbox.watch("public", "songs");
  }
  Reader reader(songs(server));
  reader.loaded();
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> commits = 0;
    {
      std::vector<std::jthread> writers;
      for (int w = 0; w < 4; ++w) {
        writers.emplace_back([&server, &commits, w, synchronous](std::stop_token stop) {
          try {
            Client client(server);
            client.exec(synchronous ? "SET synchronous_commit = on"
                                    : "SET synchronous_commit = off");
            while (!stop.stop_requested()) {
              client.exec(
                  "BEGIN; UPDATE songs SET title = (title::int + 1)::text WHERE id::int % 4 "
                  "= " +
                  std::to_string(w) + "; COMMIT");
              ++commits;
            }
          } catch (const std::exception&) {  // the server went away: meant to
          }
        });
      }
      wait_for(
          "commits", [&] { return commits > 100; }, 30s);
      server.kill();
    }
    server.start();
    wait_until_up(server);
    Client client(server);
    // Takes the transaction ids that the crash set free.
    client.exec("UPDATE songs SET title = (title::int + 1)::text WHERE id = '3'");
    reader.wait_equal(client, "SELECT id, row_to_json(t.*)::text FROM public.songs AS t", 30s);
  }
  CHECK(told_once_in_order(reader.sink));
  CHECK(reader.sink.count("restart") == 0);
  CHECK(reader.sink.count("doubt") == 0);
}

TEST_CASE("faults: a table that is dropped is a doubt and is read again when it is back",
          "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', '1')");
  TableOptions options = songs(db.server);
  options.poll = 50ms;
  Reader reader(options);
  reader.loaded();
  const auto rows = reader.sink.rows();
  db.client.exec("DROP TABLE songs");
  wait_for("a doubt", [&] { return reader.sink.count("doubt") > 0; });
  CHECK(reader.sink.rows() == rows);
  CHECK(reader.sink.count("restart") == 0);
  db.client.exec(
      "CREATE TABLE songs (id text PRIMARY KEY, title text);"
      "INSERT INTO songs VALUES ('b', '1')");
  Outbox(db.server.connection_string()).watch("public", "songs");
  reader.wait_equal(db.client);
  CHECK(reader.sink.count("restart") == 1);
  // Its rows are told before that.
  wait_for("the end of the load", [&] { return reader.sink.count("loaded") == 2; });
}

TEST_CASE("faults: a lost notification costs a poll and no change",
          "[postgres][faults][integration]") {
  Database db;
  Outbox outbox(db.server.connection_string());
  outbox.unwatch("public", "songs");
  outbox.watch("public", "songs", {.key = {}, .notify = false});
  TableOptions options = songs(db.server);
  options.poll = 100ms;
  Reader reader(options);
  reader.loaded();
  db.client.exec("INSERT INTO songs VALUES ('a', '1')");
  reader.wait_equal(db.client);
}

TEST_CASE("faults: a database that lost what was read is a doubt",
          "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs VALUES ('a', '1'), ('b', '1')");
  Reader reader(songs(db.server));
  reader.loaded();
  db.client.exec("UPDATE songs SET title = '2'");
  reader.wait_equal(db.client);
  // As after a failover to a standby that did not have everything.
  db.client.exec(
      "BEGIN; UPDATE dmm.reader SET marks = marks - 1;"
      "ALTER TABLE songs DISABLE TRIGGER ALL; DELETE FROM songs WHERE id = 'b';"
      "ALTER TABLE songs ENABLE TRIGGER ALL; COMMIT");
  cut_readings(db.client);
  wait_for("the table to be read anew", [&] { return reader.sink.count("loaded") == 2; });
  CHECK(reader.sink.last("doubt").find("earlier state") != std::string::npos);
  reader.wait_equal(db.client);
}

TEST_CASE("faults: a reading ends at once while the server is away and in the midst of rows",
          "[postgres][faults][integration]") {
  Database db;
  db.client.exec("INSERT INTO songs SELECT g::text, '0' FROM generate_series(1, 50) AS g");
  for (const bool away : {false, true}) {
    Reader reader(songs(db.server), nullptr, 10);
    wait_for("a part of the rows", [&] { return reader.sink.count("row") == 10; });
    if (away) db.server.kill();
    const auto start = std::chrono::steady_clock::now();
    reader.reading.reset();
    CHECK(std::chrono::steady_clock::now() - start < 10s);
  }
}

}  // namespace dmm::postgres
