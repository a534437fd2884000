// Goal: `dmm postgres` does what the guide types.
// Method: the tool as a process against a real server.

#include <catch2/catch.hpp>

#include "dmm/testing/child_process.h"
#include "fixture.h"

namespace dmm::postgres {

namespace {

testing::Finished dmm(const testing::PostgresServer& server, std::vector<std::string> arguments) {
  testing::ChildOptions child;
  child.arguments = std::move(arguments);
  child.environment["DMM_POSTGRES"] = server.connection_string();
  return testing::run(DMM_CLI, std::move(child), 60s);
}

}  // namespace

TEST_CASE("cli: a database is migrated a table watched shown and let go",
          "[postgres][postgres_cli][integration]") {
  testing::PostgresServer server;
  Client client(server);
  client.exec("CREATE TABLE public.songs (player text PRIMARY KEY, song text NOT NULL)");
  const auto early = dmm(server, {"postgres", "watch", "songs"});
  CHECK_FALSE(early.status.success());
  CHECK(early.error_output.find("DMM-0410") != std::string::npos);
  CHECK(dmm(server, {"postgres", "migrate"}).status.success());
  CHECK(dmm(server, {"postgres", "migrate", "-o", "json"}).status.success());
  CHECK(dmm(server, {"postgres", "watch", "songs"}).status.success());
  CHECK(dmm(server, {"postgres", "watch", "public.songs", "--key", "player"}).status.success());
  CHECK(dmm(server, {"postgres", "watch", "no.such"}).error_output.find("DMM-0407") !=
        std::string::npos);
  client.exec("INSERT INTO songs VALUES ('kitchen', 'Aria')");
  const auto shown = dmm(server, {"postgres", "status", "-o", "json"});
  const json document = json::parse(shown.output);
  CHECK(document.at("tables").at(0).at("table") == "public.songs");
  CHECK(document.at("tables").at(0).at("changes") == 1);
  CHECK(dmm(server, {"postgres", "status"}).output.find("public.songs") != std::string::npos);
  CHECK(dmm(server, {"postgres", "unwatch", "songs"}).status.success());
  CHECK_FALSE(dmm(server, {"postgres", "migrate", "--to", "0"}).status.success());
  CHECK(dmm(server, {"postgres", "migrate", "--to", "0", "--yes"}).status.success());
  CHECK(client.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'dmm'") == 0);
  CHECK(dmm(server, {"postgres", "migrate", "--print"}).output.find("CREATE SCHEMA") !=
        std::string::npos);
}

}  // namespace dmm::postgres
