// Header bombs: blocks of headers that no sound client writes. Goal: they cost little, are given as
// they are, and what comes behind them is served. Method: a server that answers with them.

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "dmm/nats/connection.h"
#include "tests/dmm/nats/fake_server.h"

using namespace dmm;
using namespace dmm::nats;
using namespace std::chrono_literals;
using testing::FakeServer;

namespace {

std::string block_of(std::size_t count, const std::function<std::string(std::size_t)>& line) {
  std::string block = "NATS/1.0\r\n";
  for (std::size_t i = 0; i < count; ++i) block += line(i) + "\r\n";
  return block + "\r\n";
}

struct Bomb {
  std::string name;
  std::string block;
  std::size_t headers;
};

std::vector<Bomb> bombs() {
  return {
      {"different names",
       block_of(10'000, [](std::size_t i) { return fmt::format("H{}: {}", i, i); }), 10'000},
      {"one name", block_of(10'000, [](std::size_t i) { return fmt::format("A: {}", i); }), 10'000},
      {"as much as a message holds", block_of(200'000, [](std::size_t) { return "a:b"; }), 200'000},
      {"a long one", block_of(1, [](std::size_t) { return fmt::format("A: {:a<60000}", "a"); }), 1},
      {"a long name", block_of(1, [](std::size_t) { return fmt::format("{:a<60000}: a", "a"); }),
       1},
  };
}

}  // namespace

TEST_CASE("headers: a bomb of them costs little and hides nothing", "[nats][fault]") {
  std::map<std::string, std::string> blocks;
  for (const Bomb& bomb : bombs()) blocks.emplace(bomb.name, bomb.block);
  FakeServer server([&blocks](FakeServer& self, const FakeServer::Published& asked) {
    const auto bomb = blocks.find(asked.payload);
    self.send(asked.reply, "payload", bomb == blocks.end() ? "" : bomb->second);
  });
  ConnectionOptions options;
  options.servers = {server.url()};
  Connection connection(options, Logger());
  for (const Bomb& bomb : bombs()) {
    INFO(bomb.name);
    const auto began = std::chrono::steady_clock::now();
    const auto answer = connection.request("ask", bomb.name, 60s);
    const auto took = std::chrono::steady_clock::now() - began;
    REQUIRE(answer.ok());
    CHECK(answer.value().headers.size() == bomb.headers);
    CHECK(answer.value().payload == "payload");
    CHECK(std::chrono::duration_cast<std::chrono::milliseconds>(took).count() < 3'000);
    CHECK(connection.request("ask", "none", 2s).ok());
  }
}

TEST_CASE("headers: what is in a block is what is read", "[nats][fault]") {
  using Headers = transport::Headers;
  const auto given = GENERATE(table<std::string, Headers>({
      {"A: 1\r\nA: 2\r\nB: 3\r\n", {{"A", "1"}, {"A", "2"}, {"B", "3"}}},
      {"A:\r\nDmm-Deleted: 1\r\nDmm-View: v\r\n",
       {{"A", ""}, {"Dmm-Deleted", "1"}, {"Dmm-View", "v"}}},
      {"A: \r\nKV-Operation:DEL\r\n", {{"A", ""}, {"KV-Operation", "DEL"}}},
      {"A: see Dmm-View: v\r\n", {{"A", "see Dmm-View: v"}}},
      {"Dmm-Deleted: 1\r\nA:\r\n", {{"A", ""}, {"Dmm-Deleted", "1"}}},
      {"A:\r\nB:\r\n", {{"A", ""}, {"B", ""}}},
      {"no colon\r\nA: 1 \r\n", {{"A", "1"}}},
      {"Status: 404\r\n", {{"Status", "404"}}},
      {"A:1\r\n", {{"A", "1"}}},
      {"A: a:b\r\n", {{"A", "a:b"}}},
      {"A: \xFF\xFE\r\n", {{"A", "\xFF\xFE"}}},
  }));
  const std::string lines = std::get<0>(given);
  INFO(lines);
  FakeServer server([&lines](FakeServer& self, const FakeServer::Published& asked) {
    self.send(asked.reply, "payload", "NATS/1.0\r\n" + lines + "\r\n");
  });
  ConnectionOptions options;
  options.servers = {server.url()};
  Connection connection(options, Logger());
  const auto answer = connection.request("ask", "", 5s);
  REQUIRE(answer.ok());
  Headers read = answer.value().headers;
  std::ranges::stable_sort(read, {}, &std::pair<std::string, std::string>::first);
  CHECK(read == std::get<1>(given));
  CHECK(answer.value().status == 0);
}

TEST_CASE("headers: a status of the server is one and those of a message are none",
          "[nats][fault]") {
  FakeServer server([](FakeServer& self, const FakeServer::Published& asked) {
    self.send(asked.reply, "", "NATS/1.0 404 No Messages \r\nStatus: 200\r\n\r\n");
  });
  ConnectionOptions options;
  options.servers = {server.url()};
  Connection connection(options, Logger());
  const auto answer = connection.request("ask", "", 5s);
  REQUIRE(answer.ok());
  CHECK(answer.value().status == 404);
  CHECK(answer.value().description == "No Messages");
  CHECK(transport::find_header(answer.value().headers, "Status") == "404");
}
