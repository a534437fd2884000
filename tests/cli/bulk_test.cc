// Goal: reports from standard input arrive, each line for itself. Method: JSON Lines, good and bad,
// against a live namespace.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "runner.h"

namespace dmm::cli_test {
namespace {

TEST_CASE("report: one state as an argument", "[cli][bulk][integration]") {
  const Site site("one");
  const Result sent = site.dmm({"report", "player", "kitchen", "{\"song\":\"A\"}"});
  CHECK(sent.code == 0);
  CHECK(sent.out == "player: 1 report sent\n");
  const json reports = site.dmm({"reports", "player", "-o", "json"}).document();
  REQUIRE(reports.size() == 1);
  CHECK(reports.at(0).at("device") == "kitchen");
  CHECK(reports.at(0).at("state") == json{{"song", "A"}});
  CHECK(site.dmm({"reports"}).out.find("kitchen") != std::string::npos);
  CHECK(site.dmm({"reports", "lamp"}).out.empty());
  CHECK(site.dmm({"report", "player", "kitchen", "{"}).code == 2);
  CHECK(site.dmm({"report", "no kind", "kitchen", "{}"}).code == 2);
}

TEST_CASE("report: the last line of a device is its last report", "[cli][bulk][integration]") {
  const Site site("last");
  std::string input;
  for (int i = 1; i <= 100; ++i) input += fmt::format("{{\"n\":{}}}\n", i);
  CHECK(site.dmm({"report", "player", "kitchen", "-"}, input).out == "player: 100 reports sent\n");
  const json reports = site.dmm({"reports", "-o", "json"}).document();
  REQUIRE(reports.size() == 1);
  CHECK(reports.at(0).at("state") == json{{"n", 100}});
}

TEST_CASE("report: bad lines are told and the rest goes on", "[cli][bulk][integration]") {
  const Site site("lines");
  const std::string input =
      "{\"device\":\"a\",\"state\":{\"n\":1}}\n"
      "not json\n"
      "\r\n"
      "{\"device\":\"b\",\"state\":{\"n\":2}}\r\n"
      "{\"device\":7,\"state\":{}}\n"
      "{\"device\":\"" +
      std::string(256, 'x') +
      "\",\"state\":{}}\n"
      "{\"device\":\"\xff\",\"state\":{}}\n" +
      std::string(100'000, '[') + "\n" + std::string(2'000'000, 'x') +
      "\n"
      "{\"device\":\"c\",\"state\":\"" +
      std::string(1'000'000, 'y') +
      "\"}\n"
      "{\"device\":\"d\",\"state\":{\"n\":4}}";
  const Result result = site.dmm({"report", "player", "-", "-o", "json"}, input);
  CHECK(result.code == 1);
  const json document = result.document();
  CHECK(document.at("sent") == 3);
  CHECK(document.at("failed") == 7);
  std::vector<std::pair<int, std::string>> failures;
  for (const json& one : document.at("failures")) {
    failures.emplace_back(one.at("line").get<int>(), one.at("error_code").get<std::string>());
  }
  CHECK(failures == std::vector<std::pair<int, std::string>>{{2, "DMM-0203"},
                                                             {5, "DMM-0209"},
                                                             {6, "DMM-0201"},
                                                             {7, "DMM-0205"},
                                                             {8, "DMM-0204"},
                                                             {9, "DMM-0202"},
                                                             {10, "DMM-0202"}});
  CHECK(result.err.find("dmm: line 2: DMM-0203: ") == 0);
  CHECK(site.dmm({"reports", "-o", "json"}).document().size() == 3);
}

TEST_CASE("report: thousands of devices arrive in batches", "[cli][bulk][integration]") {
  const Site site("many");
  std::string input;
  for (int i = 0; i < 5'000; ++i) {
    input += fmt::format("{{\"device\":\"d{}\",\"state\":{{\"n\":{}}}}}\n", i, i);
  }
  const Result result = site.dmm({"report", "player", "-"}, input);
  CHECK(result.code == 0);
  CHECK(result.out == "player: 5,000 reports sent\n");
  CHECK(result.err.empty());  // no progress where nobody looks
  CHECK(site.dmm({"reports", "player", "-o", "json"}).document().size() == 5'000);
}

TEST_CASE("report: nothing on standard input is nothing to send", "[cli][bulk][integration]") {
  const Site site("empty");
  CHECK(site.dmm({"report", "player", "-"}).out == "player: 0 reports sent\n");
}

}  // namespace
}  // namespace dmm::cli_test
