// Goal: people on any terminal can read what the tool shows. Method: give it a pseudo-terminal of a
// given size.

#include <catch2/catch.hpp>

#include "runner.h"
#include "screen.h"

namespace dmm::cli_test {
namespace {

void fill(const Site& site) {
  REQUIRE(site.dmm({"put", "player", "a-rather-long-name-of-a-player", "{\"s\":\"\\u001b[31m\"}"})
              .code == 0);
  REQUIRE(
      site.dmm({"put", "player", "日本語の名前", "{\"long\":\"" + std::string(300, 'v') + "\"}"})
          .code == 0);
  REQUIRE(
      site.dmm({"report", "player", "x", "{\"long\":\"" + std::string(300, 'v') + "\"}"}).code ==
      0);
}

TEST_CASE("terminal: no table is wider than the terminal", "[cli][terminal][integration]") {
  const Site site("narrow");
  fill(site);
  for (const unsigned short columns : std::initializer_list<unsigned short>{20, 40, 80, 132}) {
    for (const Arguments& call :
         std::vector<Arguments>{{"ls", "--values"},
                                {"reports"},
                                {"parked"},
                                {"leases"},
                                {"doctor", "--limits"},
                                {"history", "player", "a-rather-long-name-of-a-player"},
                                {"diff", "player", "a-rather-long-name-of-a-player"},
                                {"view", "ls"}}) {
      const Shown shown = on_terminal(site, call, columns, {{"NO_COLOR", "1"}});
      INFO("dmm " << call.front() << " at " << columns << ":\n" << shown.text);
      CHECK(shown.code == 0);
      CHECK(widest_line(shown.text) <= columns);
      CHECK_FALSE(shown.text.empty());
    }
  }
}

TEST_CASE("terminal: colours only where they are wanted", "[cli][terminal][integration]") {
  const Site site("colors");
  fill(site);
  const std::string escape = "\x1b[";
  CHECK(on_terminal(site, {"ls"}, 80).text.find(escape) != std::string::npos);
  CHECK(on_terminal(site, {"ls", "--no-color"}, 80).text.find(escape) == std::string::npos);
  CHECK(on_terminal(site, {"ls"}, 80, {{"NO_COLOR", "1"}}).text.find(escape) == std::string::npos);
  CHECK(on_terminal(site, {"ls"}, 80, {{"TERM", "dumb"}}).text.find(escape) == std::string::npos);
  CHECK(on_terminal(site, {"ls"}, 80, {{"TERM", ""}}).text.find(escape) == std::string::npos);
  CHECK(site.dmm({"ls"}).out.find(escape) == std::string::npos);
  // What is stored never reaches the terminal as a command.
  CHECK(on_terminal(site, {"ls", "--values"}, 200).text.find("\x1b[31m") == std::string::npos);
  CHECK(on_terminal(site, {"get", "player", "a-rather-long-name-of-a-player"}, 80, {})
            .text.find("\x1b[31m") == std::string::npos);
}

TEST_CASE("terminal: questions are asked and no is the default", "[cli][terminal][integration]") {
  const Site site("asks");
  REQUIRE(site.dmm({"put", "player", "a", "{}"}).code == 0);
  const Shown no = on_terminal(site, {"rm", "player", "a"}, 80, {}, "\n");
  CHECK(no.code == 1);
  CHECK(no.text.find("Remove player/a and what it stands for? [y/N]") != std::string::npos);
  CHECK(site.dmm({"get", "player", "a", "-o", "json"}).document().at("deleted") == false);
  const Shown yes = on_terminal(site, {"rm", "player", "a"}, 80, {}, "y\n");
  CHECK(yes.code == 0);
  CHECK(site.dmm({"get", "player", "a", "-o", "json"}).document().at("deleted") == true);
  CHECK(on_terminal(site, {"notify", "player", "--all"}, 80, {}, "y\n").code == 0);
}

TEST_CASE("terminal: JSON is missing where nobody pipes any", "[cli][terminal][integration]") {
  const Site site("typed");
  CHECK(on_terminal(site, {"put", "player", "a"}, 80).code == 2);
  CHECK(on_terminal(site, {"report", "player", "a"}, 80).code == 2);
  const Shown typed = on_terminal(site, {"put", "player", "a", "-"}, 80, {}, "{\"n\":1}\n\x04");
  CHECK(typed.code == 0);
}

}  // namespace
}  // namespace dmm::cli_test
