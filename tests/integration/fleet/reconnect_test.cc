// Goal: connections that are lost, again and again, and consumers that vanish cost nobody anything:
// no news, no lease, no consumer that stays behind.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <array>

#include "dmm/testing/free_port.h"
#include "fixture.h"
#include "fleet/network.h"
#include "tests/nemesis/proxy.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// Lets some time go by in which something is wrong. False if that took much longer than meant, as
// it does where the machine stands still.
bool let_pass(std::chrono::milliseconds time) {
  const auto begun = std::chrono::steady_clock::now();
  CHECK_FALSE(becomes_true([] { return false; }, time));
  return std::chrono::steady_clock::now() - begun < time + 500ms;
}

// The body of an answer over HTTP; empty if there is none.
std::string get(std::uint16_t port, const std::string& path) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  const std::string request = fmt::format("GET {} HTTP/1.0\r\n\r\n", path);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
      ::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    std::array<char, 64 * 1024> chunk;
    for (ssize_t n = 0; (n = ::read(fd, chunk.data(), chunk.size())) > 0;) {
      answer.append(chunk.data(), static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  const std::size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? "" : answer.substr(end + 4);
}

// What a server says of the subscriptions of all its clients.
std::size_t subscriptions(std::uint16_t monitor) {
  const json connections = json::parse(get(monitor, "/connz?subs=1"));
  std::size_t count = 0;
  for (const json& one : connections.at("connections")) {
    count += one.value("subscriptions", std::size_t{0});
  }
  return count;
}

}  // namespace

TEST_CASE("reconnect: a consumer that is deleted on the server is replaced within seconds",
          "[reconnect][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  bucket.observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                   context.notify(thing(context.device()), report);
                 }));
  Worker worker(bucket);
  bucket.report("speaker", "a", json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  for (const std::string& stream : {names().work(1).name, names().reports(1).name}) {
    const json all = ask(server.port(), "CONSUMER.NAMES." + stream).at("consumers");
    REQUIRE(all.size() >= 1);
    for (const json& name : all) {
      ask(server.port(), fmt::format("CONSUMER.DELETE.{}.{}", stream, name.get<std::string>()));
    }
  }
  bucket.report("speaker", "a", json{{"value", 2}});
  wait_settled_on(bucket, thing("a"), json{{"value", 2}}, 30s);
}

TEST_CASE("reconnect: two hundred of them leave no consumer and no subscription behind",
          "[reconnect][fault][integration]") {
  const std::uint16_t monitor = testing::free_port();
  testing::NatsServerOptions options;
  options.extra = fmt::format("http: \"127.0.0.1:{}\"\n", monitor);
  testing::NatsServer server(options);
  nemesis::Proxy network({server.port()});
  Bucket outside = open_bucket(server);
  const auto connection = connect_to({network.ports()[0]});
  Bucket bucket = open_bucket_on(connection);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  bucket.observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                   context.notify(thing(context.device()), report);
                 }));
  Worker worker(bucket);
  outside.report("speaker", "a", json{{"value", 0}});
  wait_settled_on(outside, thing("a"), json{{"value", 0}});
  wait_for("all lanes", [&] { return work.stats().lanes == limits::lanes; });
  const std::uint64_t consumers_before = consumers(outside);
  const std::size_t subscriptions_before = subscriptions(monitor);
  REQUIRE(consumers_before >= 4);  // tokens, reports, lanes, settings
  for (std::uint64_t i = 1; i <= 200; ++i) {
    network.set(nemesis::Trouble::reset);
    network.set(nemesis::Trouble::none);
    wait_for(
        "the connection", [&] { return connection->reconnects() >= i && connection->connected(); },
        20s);
    if (i % 50 != 0) continue;
    outside.report("speaker", "a", json{{"value", i}});
    wait_settled_on(outside, thing("a"), json{{"value", i}}, 20s);
  }
  wait_for(
      "the consumers to be as many as before",
      [&] { return consumers(outside) == consumers_before; }, 40s);
  wait_for(
      "the subscriptions to be as many as before",
      [&] { return subscriptions(monitor) == subscriptions_before; }, 40s);
  CHECK(worker.error().empty());
}

TEST_CASE("reconnect: a short cut costs no lease", "[reconnect][fault][integration]") {
  testing::NatsServer server;
  nemesis::Proxy network({server.port()});
  Bucket outside = open_bucket(server);
  Bucket bucket = open_bucket_at({network.ports()[0]});
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  int value = 0;
  // False if it took longer than meant, so that a lease may be lost, rightly.
  const auto cut = [&](nemesis::Trouble trouble) {
    wait_for("all lanes", [&] { return work.stats().lanes == limits::lanes; });
    const std::uint64_t losses = work.stats().lease_losses;
    network.set(trouble);
    bool in_time = let_pass(500ms);  // at worst 1 s after the last beat, which holds for 2.5 s
    network.set(nemesis::Trouble::none);
    outside.notify(thing("a"), json{{"value", ++value}});
    wait_settled_on(outside, thing("a"), json{{"value", value}});
    in_time = let_pass(1500ms) && in_time;  // a beat of meanwhile is answered or sent again
    if (in_time) CHECK(work.stats().lease_losses == losses);
    return in_time;
  };
  for (const nemesis::Trouble trouble : {nemesis::Trouble::drop_up, nemesis::Trouble::drop_down,
                                         nemesis::Trouble::stall, nemesis::Trouble::half_open}) {
    INFO(nemesis::to_string(trouble));
    bool in_time = cut(trouble);
    for (int i = 1; i < 5 && !in_time; ++i) in_time = cut(trouble);
    CHECK(in_time);
  }
  CHECK(most_at_once(journal.runs("a")) == 1);
}
