// Goal: a table of desired rows joined with reports reaches materialize, change by change, and
// whatever becomes of the database and the connection, no change is lost, none comes out of order
// for its row, and a table emptied by mistake tears nothing down.
// Method: a real PostgreSQL and a real NATS server; the caches are compared with the table.

#include <catch2/catch.hpp>

#include <atomic>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "dmm/view.h"
#include "fixture.h"
#include "tests/integration/fixture.h"

namespace dmm::postgres {

namespace {

using integration::Journal;
using integration::kType;
using integration::thing;

/// Players that report what they play, joined with the songs that the table wants of them.
View songs_view(const TableOptions& options) {
  View view;
  view.name = "things";
  view.type = kType;
  view.inputs = {ViewInput::reports("player"), ViewInput::table("songs", table(options))};
  view.pipeline = json::parse(R"([
    {"@join": {"@eq": ["$.player.device", "$.songs.id"]}},
    {"@project": {"id": "$.songs.id", "title": "$.songs.title", "hears": "$.player.song"}}])");
  return view;
}

TableOptions quick_songs(const testing::PostgresServer& server) {
  TableOptions options = songs(server);
  options.poll = 200ms;  // a backend that is ended in its commit notifies nobody
  return options;
}

/// A database, a namespace whose players all report, and a worker that keeps the view and runs its
/// materializers, all in this process.
struct Scene {
  Database db;
  testing::NatsServer nats;
  Bucket bucket = integration::open_bucket(nats);
  Journal journal;
  ViewStream& view;
  std::unique_ptr<integration::Worker> worker;

  explicit Scene(int rows) : view(bucket.view(songs_view(quick_songs(db.server)))) {
    db.client.exec("INSERT INTO songs SELECT g::text, '0' FROM generate_series(1, " +
                   std::to_string(rows) + ") AS g");
    for (int i = 1; i <= rows; ++i) report(std::to_string(i), "silence");
    bucket.register_type(kType, journal.noting(), integration::quick());
    worker = std::make_unique<integration::Worker>(bucket);
    wait_equal();
  }
  void report(const std::string& device, const std::string& song) {
    bucket.report("player", device, {{"song", song}});
  }

  /// The caches as they are when nothing waits: id to title; one that waits, with its phase.
  std::map<std::string, std::string> titles() {
    std::map<std::string, std::string> all;
    for (const Matter& matter : bucket.inspect().list(kType, true)) {
      std::string& title = all[matter.identity.id];
      title = std::string(to_string(matter.phase));
      if (matter.phase != Phase::settled || !matter.stored) continue;
      title = json::parse(*matter.stored).value("title", "");
    }
    return all;
  }
  /// Waits until every row of the table is settled in its cache, and no other is.
  void wait_equal(std::chrono::milliseconds deadline = 60s) {
    Client client(db.server);
    std::map<std::string, std::string> wanted;
    for (const auto& row : client.exec("SELECT id, title FROM songs")) {
      wanted.emplace(row[0].as<std::string>(), row[1].as<std::string>());
    }
    std::map<std::string, std::string> seen;
    if (becomes_true([&] { return (seen = titles()) == wanted; }, deadline)) return;
    FAIL_CHECK("the caches are not as the table after " << deadline.count() << " ms");
    CHECK(seen == wanted);
  }
  /// Whether each run of a row saw a title above, or the same as, that of the run before.
  bool in_order() const {
    std::map<std::string, int> last;
    for (const integration::Run& run : journal.runs()) {
      if (run.deleted) continue;
      const int title = std::stoi(run.cache.at("title").get<std::string>());
      if (title < last[run.id]) return false;
      last[run.id] = title;
    }
    return true;
  }
};

/// Updates rows, each transaction some of them, until it is ended; begins anew on a connection that
/// was cut, since it cannot know whether its last commit came through.
class Writer final {
 public:
  Writer(const testing::PostgresServer& server, int number)
      : thread_([this, &server, number](std::stop_token stop) {
          while (!stop.stop_requested()) {
            try {
              Client client(server, "application_name=writer");
              while (!stop.stop_requested()) {
                client.exec(
                    "BEGIN; UPDATE songs SET title = (title::int + 1)::text WHERE id::int % 3 = " +
                    std::to_string(number) + "; COMMIT");
                ++commits_;
              }
            } catch (const std::exception&) {  // cut: meant to be
            }
          }
        }) {}
  int commits() const { return commits_; }

 private:
  std::atomic<int> commits_ = 0;
  std::jthread thread_;
};

std::string ending(const std::string& application) {
  return "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = "
         "'" +
         application + "'";
}

/// From now on a commit of others hangs when it is on disk and not answered yet, because it waits
/// for a standby that there is not; or no longer.
void hold_commits(const testing::PostgresServer& server, bool hold) {
  Client client(server);
  client.exec(std::string("ALTER SYSTEM SET synchronous_standby_names = ") +
              (hold ? "'nobody'" : "''"));
  client.exec("SELECT pg_reload_conf()");
  wait_for("the setting", [&] {
    return Client(server).exec("SHOW synchronous_standby_names")[0][0].as<std::string>() ==
           (hold ? "nobody" : "");
  });
}

/// Waits until a commit of this application hangs.
void wait_held(Client& client, const std::string& application) {
  wait_for("a commit of " + application + " to hang", [&] {
    return client.number(
               "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
               " AND application_name = '" +
               application + "'") > 0;
  });
}

}  // namespace

TEST_CASE("postgres view: inserted updated and deleted rows reach materialize",
          "[postgres][postgres_view][integration]") {
  Scene scene(2);
  const std::size_t before = scene.journal.runs().size();
  scene.db.client.exec("UPDATE songs SET title = '7' WHERE id = '2'");
  integration::wait_settled_on(scene.bucket, thing("2"),
                               {{"id", "2"}, {"title", "7"}, {"hears", "silence"}});
  scene.report("2", "Aria");
  integration::wait_settled_on(scene.bucket, thing("2"),
                               {{"id", "2"}, {"title", "7"}, {"hears", "Aria"}});
  // A row without a player, and a player without a row, wait for their other half.
  scene.db.client.exec("INSERT INTO songs VALUES ('3', '1')");
  scene.report("4", "silence");
  scene.report("3", "silence");
  integration::wait_settled_on(scene.bucket, thing("3"),
                               {{"id", "3"}, {"title", "1"}, {"hears", "silence"}});
  scene.db.client.exec("DELETE FROM songs WHERE id = '2'");
  wait_for("the teardown", [&] {
    const auto runs = scene.journal.runs("2");
    return !runs.empty() && runs.back().deleted;
  });
  scene.wait_equal();
  CHECK(scene.journal.runs("2").back().cache ==
        json{{"id", "2"}, {"title", "7"}, {"hears", "Aria"}});
  // Each change cost one run of the one row that it changed: two of 2, its teardown, one of 3.
  CHECK(scene.journal.runs().size() == before + 4);
  CHECK(scene.journal.count("1") == 1);
  CHECK(scene.journal.count("4") == 0);
}

TEST_CASE("postgres view: a table that is truncated by mistake tears nothing down",
          "[postgres][postgres_view][fault][integration]") {
  Scene scene(20);
  const auto before = scene.titles();
  scene.db.client.exec("TRUNCATE songs");
  wait_for("the removals to be held", [&] { return scene.view.stats().held == 20; });
  CHECK(scene.titles() == before);
  SECTION("the rows come back") {
    scene.db.client.exec("INSERT INTO songs SELECT g::text, '1' FROM generate_series(1, 20) AS g");
    wait_for("nothing to be held", [&] { return scene.view.stats().held == 0; });
    scene.wait_equal();
    CHECK(scene.view.stats().removed == 0);
  }
  SECTION("a person approves") {
    wait_for("the view to say so", [&] {
      const auto views = scene.bucket.views().list();
      return views.size() == 1 && views[0].held == 20 && views[0].doubt;
    });
    scene.bucket.views().approve("things", 20);
    scene.wait_equal();
    CHECK(scene.view.stats().removed == 20);
  }
  SECTION("the keeper of the view and the database begin anew") {
    scene.worker->stop();
    scene.db.server.stop();
    scene.db.server.start();
    wait_until_up(scene.db.server);
    scene.worker = std::make_unique<integration::Worker>(scene.bucket);
    wait_for("the removals to be held again", [&] { return scene.view.stats().held == 20; });
    CHECK(scene.view.stats().removed == 0);
  }
  for (const integration::Run& run : scene.journal.runs()) {
    if (run.deleted) CHECK(scene.view.stats().removed == 20);
  }
}

TEST_CASE("postgres view: a database that stops or crashes loses no change and mixes none up",
          "[postgres][postgres_view][fault][integration]") {
  Scene scene(30);
  for (const bool crash : {false, true, true}) {
    {
      Writer one(scene.db.server, 0);
      Writer two(scene.db.server, 1);
      wait_for(
          "commits", [&] { return one.commits() > 20 && two.commits() > 20; }, 30s);
      crash ? scene.db.server.kill() : scene.db.server.stop();
    }
    scene.db.server.start();
    wait_until_up(scene.db.server);
    Client(scene.db.server).exec("UPDATE songs SET title = (title::int + 1)::text");
    scene.wait_equal();
  }
  CHECK(scene.in_order());
  CHECK(scene.view.stats().removed == 0);
  CHECK(scene.view.stats().held == 0);
}

TEST_CASE("postgres view: backends that are ended again and again lose no change and mix none up",
          "[postgres][postgres_view][fault][integration]") {
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Scene scene(30);
  {
    Writer one(scene.db.server, 0);
    Writer two(scene.db.server, 1);
    Client cutter(scene.db.server);
    int cut = 0;
    while (cut < 40) {
      const int commits = one.commits() + two.commits();
      wait_for(
          "a few commits", [&] { return one.commits() + two.commits() > commits + 5; }, 30s);
      const bool reader = std::uniform_int_distribution(0, 1)(random) == 0;
      if (cutter.number(ending(reader ? "dmm test" : "writer")) > 0) ++cut;
    }
  }
  scene.wait_equal();
  CHECK(scene.in_order());
  CHECK(scene.view.stats().removed == 0);
  CHECK(scene.view.stats().held == 0);
}

TEST_CASE("postgres view: a writer that is cut off in the midst of its commit has changed the rows",
          "[postgres][postgres_view][fault][integration]") {
  // The commit is on disk and cannot be undone; only its answer is lost.
  Scene scene(5);
  Client client(scene.db.server, "options='-c synchronous_commit=local'");
  for (int round = 1; round <= 3; ++round) {
    hold_commits(scene.db.server, true);
    std::string answer = "none";
    {
      const std::jthread writer([&] {
        try {
          Client(scene.db.server, "application_name=writer")
              .exec("UPDATE songs SET title = (title::int + 1)::text");
          answer = "done";
        } catch (const std::exception& error) {
          answer = error.what();
        }
      });
      wait_held(client, "writer");
      client.exec(ending("writer"));
    }
    CHECK(answer != "done");
    hold_commits(scene.db.server, false);
    CHECK(client.number("SELECT min(title::int) FROM songs") == round);
    scene.wait_equal();
  }
  CHECK(scene.in_order());
  CHECK(scene.view.stats().removed == 0);
}

TEST_CASE("postgres view: a commit that is undone at its end is never seen",
          "[postgres][postgres_view][fault][integration]") {
  Scene scene(5);
  // Checked within the commit, where it hangs until the lock is free.
  scene.db.client.exec(
      "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';"
      "CREATE CONSTRAINT TRIGGER hang AFTER UPDATE ON songs DEFERRABLE INITIALLY DEFERRED"
      " FOR EACH ROW EXECUTE FUNCTION hang()");
  scene.db.client.exec("SELECT pg_advisory_lock(1)");
  {
    const std::jthread writer([&] {
      try {
        Client(scene.db.server, "application_name=writer")
            .exec("BEGIN; UPDATE songs SET title = '999'; COMMIT");
      } catch (const std::exception&) {  // cut: meant to be
      }
    });
    Client client(scene.db.server);
    wait_for("the commit to hang", [&] {
      return client.number(
                 "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
                 " AND application_name = 'writer'") == 1;
    });
    client.exec(ending("writer"));
  }
  scene.db.client.exec("SELECT pg_advisory_unlock(1)");
  scene.db.client.exec("UPDATE songs SET title = '1'");
  scene.wait_equal();
  for (const integration::Run& run : scene.journal.runs()) CHECK(run.cache["title"] != "999");
}

TEST_CASE(
    "postgres view: a reading that is cut off in the midst of its commit goes on where it was",
    "[postgres][postgres_view][fault][integration]") {
  Scene scene(5);
  Client client(scene.db.server, "options='-c synchronous_commit=local'");
  for (int round = 1; round <= 3; ++round) {
    hold_commits(scene.db.server, true);
    client.exec("UPDATE songs SET title = (title::int + 1)::text");
    wait_held(client, "dmm test");  // the mark of what it has read
    client.exec("UPDATE songs SET title = (title::int + 1)::text");
    client.exec(ending("dmm test"));
    hold_commits(scene.db.server, false);
    scene.wait_equal();
  }
  CHECK(scene.in_order());
  CHECK(scene.view.stats().removed == 0);
  CHECK(scene.view.stats().held == 0);
}

}  // namespace dmm::postgres
