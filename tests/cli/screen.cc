#include "screen.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>

#include "dmm/cli/terminal.h"

namespace dmm::cli_test {

Shown on_terminal(const Site& site, const Arguments& arguments, unsigned short columns,
                  const std::map<std::string, std::string>& more, const std::string& keys,
                  bool interrupts) {
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
    if (interrupts && shown.text.find('\n') != std::string::npos) {
      interrupts = false;
      ::kill(child, SIGINT);
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

}  // namespace dmm::cli_test
