// Goal: what a worker leaves when it ends or freezes in the midst of a work is taken over in
// seconds, and what a frozen one says later does not count.

#include <catch2/catch.hpp>

#include <signal.h>

#include <memory>
#include <string>

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

struct Scene {
  Scene() {
    migrate(postgres.connection_string());
    pqxx::connection connection(postgres.connection_string());
    pqxx::nontransaction(connection)
        .exec("CREATE TABLE public.ledger (name text, generation bigint, version bigint, pid int)");
  }

  std::unique_ptr<testing::ChildProcess> start_host(int work_ms) {
    testing::ChildOptions options;
    options.arguments = {nats.url(), postgres.connection_string(), world.path().string()};
    options.environment["DMM_TEST_WORK_MS"] = std::to_string(work_ms);
    options.output = testing::Output::inherit;
    options.error = testing::Output::inherit;
    return std::make_unique<testing::ChildProcess>(DMM_TEST_HOST, std::move(options));
  }

  testing::PostgresServer postgres;
  testing::NatsServer nats;
  testing::TemporaryDirectory world{"dmm-takeover"};
};

void wait_state(Client& client, State state, std::chrono::milliseconds deadline) {
  testing::wait_for(
      std::string(to_string(state)),
      [&] {
        const auto found = client.get({"thing", "t1"});
        return found && found->state == state;
      },
      deadline);
}

}  // namespace

TEST_CASE("takeover: a work whose worker is killed is another worker's within seconds",
          "[resource][takeover][fault]") {
  Scene scene;
  Client client(scene.postgres.connection_string());
  const auto slow = scene.start_host(60'000);
  client.inform(Thing{"t1", 1});
  wait_state(client, State::running, 20s);
  const auto quick = scene.start_host(1);
  slow->kill(SIGKILL);
  const auto killed = Clock::now();
  wait_state(client, State::synced, 15s);
  CHECK(Clock::now() - killed < 10s);
  const auto found = client.get<Thing>("t1");
  CHECK(found->attempt == 2);
  REQUIRE(found->errors.size() == 1);
  CHECK(found->errors[0].error.find("worker ended") != std::string::npos);
}

TEST_CASE("takeover: the late result of a worker that was frozen is refused",
          "[resource][takeover][fault]") {
  Scene scene;
  Client client(scene.postgres.connection_string());
  const auto zombie = scene.start_host(2'000);
  client.inform(Thing{"t1", 1});
  wait_state(client, State::running, 20s);
  zombie->kill(SIGSTOP);
  const auto quick = scene.start_host(1);
  wait_state(client, State::synced, 90s);  // it may be frozen with something locked
  const auto before = client.get<Thing>("t1");
  zombie->kill(SIGCONT);  // its work ends in a moment, and it stores what came of it
  pqxx::connection connection(scene.postgres.connection_string());
  pqxx::nontransaction database(connection);
  const auto rows = [&] { return database.exec1("SELECT count(*), max(pid) FROM public.ledger"); };
  CHECK_FALSE(testing::becomes_true([&] { return rows()[0].as<int>() > 1; }, 6s));
  CHECK(rows()[1].as<int>() == quick->pid());
  const auto after = client.get<Thing>("t1");
  CHECK(after->state == State::synced);
  CHECK(after->synced_at == before->synced_at);
  CHECK(after->attempt == before->attempt);
}

}  // namespace dmm::resource
