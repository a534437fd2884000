// Goal: `dmm resource` does what its help types.
// Method: the tool as a process against real servers.

#include "dmm/testing/child_process.h"
#include "fixture.h"

#include <stdexcept>

namespace dmm::resource {

namespace {

testing::Finished dmm(const Scene& scene, std::vector<std::string> arguments) {
  testing::ChildOptions child;
  arguments.insert(arguments.begin(), {"resource"});
  child.arguments = std::move(arguments);
  child.environment["DMM_POSTGRES"] = scene.connection();
  child.environment["DMM_SERVER"] = scene.nats.url();
  child.environment["DMM_NAMESPACE"] = "test";
  return testing::run(DMM_CLI, std::move(child), 60s);
}

json document(const testing::Finished& finished) {
  INFO(finished.output << finished.error_output);
  REQUIRE(finished.status.success());
  return json::parse(finished.output);
}

}  // namespace

TEST_CASE("cli: tables are made looked at printed and removed",
          "[resource][resource_cli][integration]") {
  Scene scene;
  scene.db.exec("DROP SCHEMA dmm CASCADE");
  CHECK(document(dmm(scene, {"migrate", "status", "-o", "json"})).at("version") == 0);
  CHECK(dmm(scene, {"ls"}).error_output.find("DMM-0804") != std::string::npos);
  CHECK(dmm(scene, {"migrate", "up"}).status.success());
  CHECK(document(dmm(scene, {"migrate", "up", "-o", "json"})).at("before") == 1);
  CHECK(dmm(scene, {"migrate", "print"}).output.find("CREATE TABLE dmm.resource ") !=
        std::string::npos);
  CHECK_FALSE(dmm(scene, {"migrate", "down"}).status.success());
  CHECK(dmm(scene, {"migrate", "down", "--yes"}).status.success());
  CHECK(dmm(scene, {"migrate", "sideways"}).status.code == 2);
  CHECK(scene.db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'dmm'") == 0);
}

TEST_CASE("cli: resources are listed shown retried invalidated and forgotten",
          "[resource][resource_cli][integration]") {
  Scene scene;
  std::atomic<bool> well{false};
  Running running(scene, [&](Host& host) {
    host.add<Note>(Informing<Note>{[&](WorkContext&, const Resource<Note>&) -> Verdict {
                                     if (!well) throw std::runtime_error("boom");
                                     return Verdict::synced();
                                   },
                                   [](InformContext&, Sink<Note>& sink) {
                                     sink.put({"listed", "text"});
                                     return Listed::complete();
                                   }},
                   on_demand());
  });
  scene.client.inform(Note{"n1", "text"}, {.max_attempts = 1});
  wait_state(scene.client, {"note", "n1"}, State::degraded);
  const json list = document(dmm(scene, {"ls", "note", "--state", "degraded", "-o", "json"}));
  REQUIRE(list.at("resources").size() == 1);
  CHECK(list.at("resources")[0].at("errors")[0].at("error") == "boom");
  CHECK(dmm(scene, {"ls"}).output.find("degraded") != std::string::npos);
  CHECK(dmm(scene, {"ls", "--state", "sick"}).status.code == 2);
  CHECK(document(dmm(scene, {"get", "note", "n1", "-o", "json"})).at("object").at("text") ==
        "text");
  CHECK(dmm(scene, {"get", "note", "n1"}).output.find("boom") != std::string::npos);
  CHECK(dmm(scene, {"get", "note", "n2"}).status.code == 4);
  CHECK(dmm(scene, {"invalidate", "note", "n1"}).status.code == 5);
  well = true;
  CHECK(document(dmm(scene, {"retry", "note", "--all", "-o", "json"})).at("retried") == 1);
  wait_state(scene.client, {"note", "n1"}, State::synced);
  CHECK(dmm(scene, {"retry", "note"}).status.code == 2);
  CHECK(dmm(scene, {"invalidate", "note", "n1"}).status.success());
  CHECK(document(dmm(scene, {"kinds", "-o", "json"}))[0].at("kind") == "note");
  CHECK(dmm(scene, {"pause", "note", "--reason", "lunch"}).status.success());
  CHECK(dmm(scene, {"kinds"}).output.find("lunch") != std::string::npos);
  CHECK(dmm(scene, {"resume", "note"}).status.success());
  CHECK(dmm(scene, {"pause", "nobody"}).status.code == 4);
  CHECK(dmm(scene, {"inform", "note", "--label", "a=b"}).status.success());
  wait_state(scene.client, {"note", "listed"}, State::synced);
  CHECK(document(dmm(scene, {"informers", "-o", "json"})).at("informers").size() == 1);
  CHECK(dmm(scene, {"informers"}).output.find("note") != std::string::npos);
  wait_for("the event", [&] {
    return dmm(scene, {"events", "note", "--event", "recovered"}).output.find("n1") !=
           std::string::npos;
  });
  CHECK(dmm(scene, {"events", "--event", "degraded", "-o", "json"}).output.find("boom") !=
        std::string::npos);
  CHECK_FALSE(dmm(scene, {"forget", "note", "n1"}).status.success());
  CHECK(dmm(scene, {"forget", "note", "n1", "--yes"}).status.success());
  CHECK(dmm(scene, {"forget", "note", "n1", "--yes"}).status.code == 4);
}

}  // namespace dmm::resource
