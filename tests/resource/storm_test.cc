// Goal: whatever ends in the midst of an inform or a work, no object is lost, none stays worked on
// stale content, and what controllers write is written once.
// Method: two host processes that are killed again and again, a database and a server of NATS that
// crash and restart, writers that commit and roll back meanwhile, a list that changes; then quiet,
// and a checker that compares what was committed, the database, the world and the ledger.
// DMM_STORM_SECONDS says for how long; DMM_SEED repeats a storm.

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include <pqxx/pqxx>

#include "dmm/resource/client.h"
#include "dmm/resource/migrations.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "storm_object.h"

namespace dmm::resource {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kThings = 60;  ///< of each writer
constexpr int kWriters = 3;
constexpr int kListed = 400;  ///< on the list of the other side

struct Storm {
  Storm() {
    migrate(postgres.connection_string());
    pqxx::connection connection(postgres.connection_string());
    pqxx::nontransaction(connection)
        .exec(
            "CREATE TABLE public.ledger (name text, generation bigint, version bigint, pid int,"
            " PRIMARY KEY (name, generation))");
    for (int i = 0; i < 2; ++i) hosts.push_back(start_host());
  }

  std::unique_ptr<testing::ChildProcess> start_host() {
    testing::ChildOptions options;
    options.arguments = {nats.url(), postgres.connection_string(), world.path().string()};
    options.output = testing::Output::inherit;
    options.error = testing::Output::inherit;
    return std::make_unique<testing::ChildProcess>(DMM_TEST_HOST, std::move(options));
  }

  testing::PostgresServer postgres;
  testing::NatsServer nats;
  testing::TemporaryDirectory world{"dmm-storm"};
  std::vector<std::unique_ptr<testing::ChildProcess>> hosts;
};

/// What was committed for certain, and what may have been.
struct Committed {
  std::int64_t least = 0;
  std::int64_t most = 0;
};
using Ledger = std::map<std::string, Committed>;

/// Informs things of its own, each version once, by itself and in transactions of which every fifth
/// is rolled back.
/// client   of all writers.
void write(const Storm& storm, Client& client, int writer, std::uint64_t seed,
           const std::stop_token& stop, Ledger& ledger) {
  std::mt19937_64 random(seed + static_cast<std::uint64_t>(writer));
  std::unique_ptr<pqxx::connection> connection;
  std::int64_t version = 0;
  while (!stop.stop_requested()) {
    const std::string name =
        "w" + std::to_string(writer) + "-" + std::to_string(random() % kThings);
    Committed& committed = ledger[name];
    const bool roll_back = random() % 5 == 0;
    ++version;
    try {
      if (random() % 3 == 0) {  // by itself, in a statement that other callers share
        committed.most = version;
        client.inform(Thing{name, version});
        committed.least = version;
        continue;
      }
      if (!connection) {
        connection = std::make_unique<pqxx::connection>(storm.postgres.connection_string());
      }
      pqxx::work transaction(*connection);
      client.inform_tx(transaction, Thing{name, version});
      if (roll_back) {
        transaction.abort();
        continue;
      }
      committed.most = version;  // from here on it may be
      transaction.commit();
      committed.least = version;
    } catch (const std::exception&) {  // the database went away: meant to
      connection.reset();
    }
  }
}

void write_list(const Storm& storm, std::int64_t version) {
  const auto draft = storm.world.path() / "list.draft";
  {
    std::ofstream list(draft);
    for (int i = 0; i < kListed; ++i) list << "l" << i << " " << version << "\n";
  }
  std::filesystem::rename(draft, storm.world.path() / "list");
}

void strike(Storm& storm, std::uint64_t seed, Clock::time_point end) {
  std::mt19937_64 random(seed);
  std::int64_t version = 0;
  auto next_database = Clock::now() + 5s;
  auto next_nats = Clock::now() + 8s;
  while (Clock::now() < end) {
    write_list(storm, ++version);
    auto& host = storm.hosts[random() % storm.hosts.size()];
    host->kill(SIGKILL);
    host->wait(10s);
    host = storm.start_host();
    if (Clock::now() >= next_database) {
      next_database += 10s;
      random() % 2 == 0 ? storm.postgres.stop() : storm.postgres.kill();
      storm.postgres.start();
    }
    if (Clock::now() >= next_nats) {
      next_nats += 10s;
      random() % 2 == 0 ? storm.nats.stop() : storm.nats.kill();
      storm.nats.start();
    }
    const auto pause = std::chrono::milliseconds(500 + random() % 2'500);
    testing::becomes_true([] { return false; }, pause);
  }
  write_list(storm, ++version);
}

std::string version_in_world(const Storm& storm, const std::string& name) {
  std::ifstream file(storm.world.path() / name);
  std::string version;
  file >> version;
  return version;
}

}  // namespace

TEST_CASE("storm: no object is lost and none stays worked on stale content",
          "[resource][storm][fault]") {
  const char* seconds = std::getenv("DMM_STORM_SECONDS");
  const char* seeded = std::getenv("DMM_SEED");
  const auto length = std::chrono::seconds(seconds != nullptr ? std::atoi(seconds) : 20);
  const std::uint64_t seed =
      seeded != nullptr ? std::strtoull(seeded, nullptr, 10) : std::random_device{}();
  UNSCOPED_INFO("DMM_SEED=" << seed);
  Storm storm;
  write_list(storm, 0);
  std::vector<Ledger> ledgers(kWriters);
  Client client(storm.postgres.connection_string());
  {
    std::vector<std::jthread> writers;
    for (int w = 0; w < kWriters; ++w) {
      writers.emplace_back([&, w](const std::stop_token& stop) {
        write(storm, client, w, seed, stop, ledgers[static_cast<std::size_t>(w)]);
      });
    }
    strike(storm, seed, Clock::now() + length);
  }

  const auto all_listed = [&] {
    // The last list, in full, and everything at rest.
    std::int64_t last = 0;
    std::ifstream list(storm.world.path() / "list");
    std::string name;
    list >> name >> last;
    int current = 0;
    std::string after;
    do {
      const Page page = client.list({.kind = "thing"}, after, 1'000);
      for (const AnyResource& found : page.resources) {
        if (found.state != State::synced) return false;
        if (found.key.id.starts_with("l") && found.content.at("version") == last) ++current;
      }
      after = page.next;
    } while (!after.empty());
    return current == kListed;
  };
  INFO("DMM_SEED=" << seed);
  const bool at_rest = testing::becomes_true(all_listed, 60s);
  pqxx::connection connection(storm.postgres.connection_string());
  pqxx::nontransaction database(connection);
  if (!at_rest) {
    for (const auto& row : database.exec(
             "SELECT id, state, tries, retry_at, now(), claim, errors::text FROM dmm.resource"
             " WHERE state <> 'synced' LIMIT 10")) {
      std::string text;
      for (const auto& field : row) text += std::string(field.c_str()) + " | ";
      WARN(text);
    }
    for (const auto& run : client.informs()) WARN(run.kind << " " << run.tries << " " << run.error);
  }
  REQUIRE(at_rest);

  int written = 0;
  for (const Ledger& ledger : ledgers) {
    for (const auto& [name, committed] : ledger) {
      const auto found = client.get<Thing>(name);
      CAPTURE(name, committed.least, committed.most);
      if (!found) {
        CHECK(committed.least == 0);  // nothing was committed for certain
        continue;
      }
      ++written;
      CHECK(found->object.version >= committed.least);
      CHECK(found->object.version <= committed.most);
    }
  }
  CHECK(written > 0);
  for (const auto& row : database.exec(
           "SELECT r.id, (r.object ->> 'version')::bigint, r.generation, l.version, l.generation"
           " FROM dmm.resource AS r LEFT JOIN LATERAL (SELECT * FROM public.ledger AS l"
           "  WHERE l.name = r.id ORDER BY l.generation DESC LIMIT 1) AS l ON true")) {
    const std::string name = row[0].as<std::string>();
    CAPTURE(name);
    CHECK(version_in_world(storm, name) == row[1].as<std::string>());
    REQUIRE_FALSE(row[3].is_null());
    CHECK(row[3].as<std::int64_t>() == row[1].as<std::int64_t>());
    CHECK(row[4].as<std::int64_t>() == row[2].as<std::int64_t>());
  }
  // Written twice, or for content that was stale, would have been a duplicate key.
  CHECK(database.exec1("SELECT count(*) FROM dmm.resource WHERE errors::text LIKE '%duplicate%'")[0]
            .as<int>() == 0);
}

}  // namespace dmm::resource
