// Goal: nothing that a user types crashes the tool, and mistakes are told with a code and a way
// out. Method: tables of mistakes, and random arguments; a server is not there, so nothing can
// happen.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>

#include "runner.h"

namespace dmm::cli_test {
namespace {

TEST_CASE("arguments: mistakes end with 2 and name the help", "[cli][arguments][unit]") {
  const std::vector<Arguments> mistakes = {
      {"lss"},
      {""},
      {"\xff\xfe"},
      {"ls", "--bogus"},
      {"ls", "-o", "xml"},
      {"ls", "a", "b"},
      {"ls", "bad type"},
      {"ls", std::string(65, 'x')},
      {"get"},
      {"get", "player"},
      {"get", "bad.type", "id"},
      {"get", "player", std::string(256, 'x')},
      {"get", "player", std::string(100'000, 'x')},
      {"put", "player", "a", "{"},
      {"put", "player", "a", "{}", "--wait", "-1"},
      {"put", "player", "a", "{}", "--wait", "soon"},
      {"notify", "player"},
      {"notify", "player", "a", "--all"},
      {"notify", "--all"},
      {"report", "player"},
      {"report", "", "a", "{}"},
      {"init", "--replicas", "2"},
      {"init", "--generation", "0"},
      {"watch", "--count", "0"},
      {"completion", "tcsh"},
      {"dev", "--port", "70000"},
      {"ls", "-n", "bad namespace"},
      {"ls", "-n", std::string(33, 'x')},
      {"ls", "--password-file", "/nonexistent"},
      {"ls", "--token-file", "/"},
      {"ls", "--config", "/nonexistent"},
  };
  for (const Arguments& mistake : mistakes) {
    const Result result = without_server(mistake);
    INFO("dmm " << json(mistake).dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 200)
                << "\n"
                << result.err);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.find("dmm: DMM-0") == 0);
    CHECK(result.err.find("\n     ") != std::string::npos);
    CHECK(result.err.find('\xff') == std::string::npos);
    CHECK(result.err.size() < 2'000);
  }
  CHECK(without_server({"lss"}).err.find("did you mean ls?") != std::string::npos);
  const Result nothing = without_server({});
  CHECK(nothing.code == 2);
  CHECK(nothing.err.find("doctor") != std::string::npos);
}

TEST_CASE("arguments: without a server every verb says so and ends with 3",
          "[cli][arguments][unit]") {
  const std::vector<Arguments> calls = {
      {"ls"},
      {"get", "player", "a"},
      {"put", "player", "a", "{}"},
      {"rm", "player", "a", "--yes"},
      {"notify", "player", "a"},
      {"notify", "player", "--all", "--yes"},
      {"report", "player", "a", "{}"},
      {"report", "player", "-"},
      {"reports"},
      {"parked"},
      {"watch"},
      {"leases"},
      {"top", "--count", "1"},
      {"history", "player", "a"},
      {"diff", "player", "a"},
      {"edit", "player", "a"},
      {"bundle", "/nowhere/bundle.tar.gz"},
      {"explain", "player", "a"},
      {"pause"},
      {"pause", "player"},
      {"resume", "player"},
      {"policy", "ls"},
      {"parked", "retry", "--yes"},
      {"command", "player", "a", "{}"},
      {"shadow", "ls"},
      {"view", "ls"},
      {"view", "show", "players"},
      {"view", "approve", "players", "--yes"},
      {"view", "verify", "players"},
      {"view", "lag", "players"},
      {"init"},
  };
  for (const Arguments& call : calls) {
    const Result result = without_server(call, "{}\n");
    INFO(json(call).dump() << "\n" << result.err);
    CHECK(result.code == 3);
    CHECK(result.out.empty());
    CHECK(result.err.find("dmm: DMM-0101: ") == 0);
    CHECK(result.err.find("dmm dev") != std::string::npos);
  }
  const Result dev = without_server({"dev"});
  CHECK(dev.code == 4);
  CHECK(dev.err.find("dmm: DMM-0405: ") == 0);
}

TEST_CASE("arguments: every verb has help with examples", "[cli][arguments][unit]") {
  for (const std::string verb :
       {"dev",     "init",       "ls",      "get",     "put",     "rm",     "notify",
        "report",  "reports",    "parked",  "watch",   "leases",  "doctor", "pipeline",
        "help",    "completion", "version", "history", "diff",    "edit",   "bundle",
        "explain", "pause",      "resume",  "policy",  "command", "shadow", "view"}) {
    const Result result = without_server({verb, "--help"});
    INFO(verb);
    CHECK(result.code == 0);
    CHECK(result.err.empty());
    CHECK(result.out.find("Examples:\n  ") != std::string::npos);
    CHECK(result.out.find("dmm ") != std::string::npos);
  }
}

TEST_CASE("arguments: global options may stand before and behind the verb",
          "[cli][arguments][unit]") {
  CHECK(without_server({"-o", "json", "version"}).document() ==
        without_server({"version", "-o", "json"}).document());
  CHECK(without_server({"--output=json", "version"}).code == 0);
}

TEST_CASE("arguments: whatever is typed never ends the tool by a signal",
          "[cli][arguments][fuzz]") {
  const char* given = std::getenv("DMM_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                                         : std::random_device{}();
  INFO("DMM_SEED=" << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> words = {"ls",
                                          "get",
                                          "put",
                                          "rm",
                                          "notify",
                                          "report",
                                          "reports",
                                          "parked",
                                          "watch",
                                          "leases",
                                          "history",
                                          "diff",
                                          "bundle",
                                          "doctor",
                                          "help",
                                          "completion",
                                          "version",
                                          "init",
                                          "pipeline",
                                          "check",
                                          "run",
                                          "dev",
                                          "player",
                                          "a",
                                          "-",
                                          "--",
                                          "++",
                                          "",
                                          "{}",
                                          "[1,2]",
                                          "[",
                                          "]",
                                          "{",
                                          "%%",
                                          "=",
                                          "-=",
                                          "--=",
                                          "-o",
                                          "json",
                                          "-ojson",
                                          "--output=",
                                          "-n",
                                          "-n=",
                                          "--yes",
                                          "-y",
                                          "-yv",
                                          "--wait",
                                          "1e309",
                                          "nan",
                                          "--all",
                                          "--parked",
                                          "--port",
                                          "-1",
                                          "65536",
                                          "\xff",
                                          "\x01\x02",
                                          "DMM-0101",
                                          "DMM-\xff",
                                          "--config",
                                          "/dev/null",
                                          "--password-file",
                                          "/",
                                          "--generation",
                                          "99999999999999999999",
                                          "--count",
                                          "bash",
                                          std::string(5'000, 'x'),
                                          std::string(5'000, '-'),
                                          "--help",
                                          "-h",
                                          "codes",
                                          "--server",
                                          "nats://",
                                          "://",
                                          "nats://127.0.0.1:99999",
                                          ","};
  for (int call = 0; call < 250; ++call) {
    Arguments arguments;
    const std::size_t count = random() % 7;
    for (std::size_t i = 0; i < count; ++i) {
      std::string word = words[random() % words.size()];
      if (random() % 8 == 0) {
        for (char& c : word) {
          if (random() % 4 == 0) c = static_cast<char>(1 + random() % 255);
        }
      }
      arguments.push_back(std::move(word));
    }
    const Result result = without_server(arguments, "{\"a\":\n\xff\n");
    INFO("dmm " << json(arguments).dump(-1, ' ', true, json::error_handler_t::replace));
    REQUIRE(result.signal == 0);
    CHECK(result.code <= 6);
  }
}

}  // namespace
}  // namespace dmm::cli_test
