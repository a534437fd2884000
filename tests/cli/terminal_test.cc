// Goal: people on any terminal can read what the tool shows. Method: give it a pseudo-terminal of a
// given size.

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <array>
#include <cerrno>
#include <sstream>

#include "dmm/cli/terminal.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

struct Shown {
  int code = -1;
  std::string text;  ///< as the terminal gets it, with its line ends turned into "\n"
};

// Runs the tool on a terminal `columns` wide and types `keys`.
Shown on_terminal(const Site& site, const Arguments& arguments, unsigned short columns,
                  const std::map<std::string, std::string>& more = {},
                  const std::string& keys = {}) {
  testing::ChildOptions call = site.options(arguments);
  call.environment["TERM"] = "xterm";
  for (const auto& [name, value] : more) call.environment[name] = value;
  std::vector<std::string> words{tool()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  winsize size{24, columns, 0, 0};
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  REQUIRE(child >= 0);
  if (child == 0) {
    for (const auto& [name, value] : call.environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  REQUIRE(::write(terminal, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  Shown shown;
  std::array<char, 4'096> chunk;
  for (;;) {
    const ssize_t n = ::read(terminal, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // EIO: the child has closed it
    for (ssize_t i = 0; i < n; ++i) {
      const char c = chunk[static_cast<std::size_t>(i)];
      if (c != '\r') shown.text += c;
    }
  }
  ::close(terminal);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) shown.code = WEXITSTATUS(status);
  return shown;
}

std::size_t widest_line(const std::string& text) {
  std::size_t widest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    widest = std::max(widest, cli::display_width(line));
  }
  return widest;
}

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
