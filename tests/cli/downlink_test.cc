// Goal: devices are commanded and shadows kept from the shell. Method: the tool as a process,
// devices in this one.

#include <catch2/catch.hpp>

#include "dmm/device.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

DeviceHost host_of(const Site& site) {
  DeviceHostOptions options;
  options.connection.servers = {Site::server().url()};
  return DeviceHost::connect(site.ns(), "player", std::move(options));
}

TEST_CASE("command: shows the answer and has an exit code for whatever else comes of it",
          "[cli][downlink][integration]") {
  const Site site("commands");
  DeviceHost host = host_of(site);
  host.serve_commands("kitchen", [](const Command& command) -> json {
    if (command.payload == "refuse") throw std::runtime_error("not now");
    return {{"heard", command.payload}};
  });
  const Result answered = site.dmm({"command", "player", "kitchen", R"({"play":1})"});
  CHECK(answered.code == 0);
  CHECK(answered.document() == json{{"heard", {{"play", 1}}}});
  CHECK(site.dmm({"command", "player", "kitchen"}, "[1]").document() == json{{"heard", {1}}});
  CHECK(site.dmm({"command", "player", "kitchen", "-"}, "2").document() == json{{"heard", 2}});

  const Result refused = site.dmm({"command", "player", "kitchen", "\"refuse\""});
  CHECK(refused.code == 5);
  CHECK(refused.out.empty());
  CHECK(refused.err.find("DMM-0703: player kitchen refused: not now") != std::string::npos);

  const Result offline = site.dmm({"command", "player", "cellar", "1"});
  CHECK(offline.code == 4);
  CHECK(offline.err.find("DMM-0701") != std::string::npos);
  const Result document = site.dmm({"command", "player", "cellar", "1", "-o", "json"});
  CHECK(document.code == 4);
  CHECK(document.document().at("result") == "offline");

  CHECK(site.dmm({"command", "player", "kitchen", "{"}).code == 2);
  CHECK(site.dmm({"command", "no kind", "kitchen", "1"}).code == 2);
  CHECK(site.dmm({"command", "player", "kitchen", "1", "--timeout", "0"}).code == 2);
  CHECK(site.dmm({"command", "player"}).code == 2);
}

TEST_CASE("shadow: is set and shown and listed and removed", "[cli][downlink][integration]") {
  const Site site("shadows");
  CHECK(site.dmm({"shadow", "get", "player", "kitchen"}).code == 4);
  CHECK(site.dmm({"shadow", "ls"}).out.empty());
  CHECK(site.dmm({"shadow", "ls", "-o", "json"}).document().empty());
  Result set = site.dmm({"shadow", "set", "player", "living room", R"({"song":1})", "-o", "json"});
  CHECK(set.code == 0);
  CHECK(set.document().at("changed") == true);
  set = site.dmm({"shadow", "set", "player", "living room"}, R"({ "song": 1 })");
  CHECK(set.code == 0);
  CHECK(set.out.find("it was so already") != std::string::npos);
  CHECK(site.dmm({"shadow", "get", "player", "living room"}).document() == json{{"song", 1}});
  const json listed = site.dmm({"shadow", "ls", "player", "-o", "json"}).document();
  REQUIRE(listed.size() == 1);
  CHECK(listed.at(0).at("device") == "living room");
  CHECK(listed.at(0).at("document") == json{{"song", 1}});
  CHECK(site.dmm({"shadow", "ls"}).out.find("living room") != std::string::npos);
  CHECK(site.dmm({"shadow", "rm", "player", "living room"}).code == 0);
  CHECK(site.dmm({"shadow", "get", "player", "living room"}).code == 4);
  CHECK(site.dmm({"shadow"}).code == 2);
  CHECK(site.dmm({"shadow", "set", "player", "kitchen", "{"}).code == 2);
}

}  // namespace
}  // namespace dmm::cli_test
