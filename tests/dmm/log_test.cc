#include "dmm/log.h"

#include <fcntl.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <array>
#include <regex>
#include <sstream>
#include <thread>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "tests/dmm/scratch.h"

namespace dmm {

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// One line, read as strictly as anything from outside.
nlohmann::json only_line(const std::string& text) {
  REQUIRE(text.back() == '\n');
  const std::vector<std::string> lines = lines_of(text);
  REQUIRE(lines.size() == 1);
  return parse_json(lines[0]).value();
}

using namespace std::string_literals;

// Standard error is a pipe that nobody reads but drain().
class StuckStderr final {
 public:
  StuckStderr() {
    REQUIRE(::pipe2(ends_.data(), O_CLOEXEC) == 0);
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    ::dup2(ends_[1], STDERR_FILENO);
  }
  ~StuckStderr() {
    ::dup2(before_, STDERR_FILENO);
    for (const int end : {before_, ends_[0], ends_[1]}) ::close(end);
  }
  std::string drain() const {
    std::string text;
    std::array<char, 4096> piece{};
    for (ssize_t n = 0; (n = ::read(ends_[0], piece.data(), piece.size())) > 0;) {
      text.append(piece.data(), static_cast<std::size_t>(n));
    }
    return text;
  }

 private:
  const int before_ = ::dup(STDERR_FILENO);
  std::array<int, 2> ends_{};
};

}  // namespace

TEST_CASE("log: a line is one JSON object with time and level", "[log][unit]") {
  const std::string text = testing::capture_stderr([] {
    Logger::json().warn("the disk is full", {{"used", 99}, {"who", "player"}});
  });
  const nlohmann::json line = only_line(text);
  CHECK(line["level"] == "warn");
  CHECK(line["message"] == "the disk is full");
  CHECK(line["used"] == 99);
  CHECK(line["who"] == "player");
  CHECK(std::regex_match(line["time"].get<std::string>(),
                         std::regex("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z")));
}

TEST_CASE("log: what comes from outside cannot break or forge a line", "[log][unit]") {
  const std::string evil = "x\"}\n{\"level\":\"error\"}\r\x1b[2J\x7f\0\xFF \xC2\x9B"s;
  const std::string text = testing::capture_stderr([&] {
    Logger::json().info(evil, {{"value", evil}, {"ke\ny\"", {{evil, evil}}}});
  });
  for (const char c : text.substr(0, text.size() - 1)) {
    REQUIRE((c >= 0x20 && c < 0x7F));
  }
  const nlohmann::json line = nlohmann::json::parse(text);
  CHECK(line["level"] == "info");
  CHECK(line["message"].get<std::string>().find("{\"level\":\"error\"}") != std::string::npos);
  CHECK(line.contains("ke\ny\""));
}

TEST_CASE("log: fields cannot take the place of time level and message", "[log][unit]") {
  const nlohmann::json line = only_line(testing::capture_stderr([] {
    Logger::json().info("m", {{"time", 1}, {"level", "x"}, {"message", "y"}});
  }));
  CHECK(line["level"] == "info");
  CHECK(line["message"] == "m");
  CHECK(line["level_"] == "x");
  CHECK(line["message_"] == "y");
  CHECK(line["time_"] == 1);
}

TEST_CASE("log: a long line is cut and stays a JSON object", "[log][unit]") {
  const auto logged = [](std::size_t message_bytes, std::size_t field_bytes, std::size_t fields) {
    nlohmann::json many = nlohmann::json::object();
    for (std::size_t i = 0; i < fields; ++i) many[std::to_string(i)] = i;
    return testing::capture_stderr([&] {
      Logger::json().info(std::string(message_bytes, '\x01'),
                          {{"text", std::string(field_bytes, '\x02')}, {"many", many}});
    });
  };
  CHECK_FALSE(only_line(logged(10, 10, 1)).contains("truncated"));
  for (const auto& text : {logged(1'000'000, 1'000'000, 1), logged(1, 1'000'000, 100'000),
                           logged(1'000'000, 1, 1), logged(2'730, 1'500, 50)}) {
    CHECK(text.size() <= limits::log_line_bytes_max);
    CHECK(only_line(text)["level"] == "info");
  }
  CHECK(only_line(logged(1'000'000, 1'000'000, 1))["truncated"] == true);
  CHECK(only_line(logged(1, 1, 100'000))["truncated"] == true);
}

TEST_CASE("log: on a terminal lines are for people and still harmless", "[log][unit]") {
  const testing::ScratchEnvironment plain({{"NO_COLOR", "1"}, {"TERM", "xterm"}});
  const std::string text = testing::capture_terminal([] {
    Logger::standard()
        .with({{"id", "kitchen"}})
        .warn("odd\x1b[2J\nthing", {{"n", 3}, {"a", "b c"}});
  });
  REQUIRE(std::regex_search(text, std::regex("^\\d\\d:\\d\\d:\\d\\d\\.\\d{3} warn  odd")));
  CHECK(text.find("odd\\x1B[2J\\x0Athing  a=\"b c\" id=kitchen n=3\n") != std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(lines_of(text).size() == 1);
}

TEST_CASE("log: on a terminal the level is coloured unless asked not to", "[log][unit]") {
  const testing::ScratchEnvironment colour({{"NO_COLOR", std::nullopt}, {"TERM", "xterm"}});
  const std::string text = testing::capture_terminal([] { Logger::standard().error("bad"); });
  CHECK(text.find("\x1b[31merror\x1b[0m bad") != std::string::npos);
  const testing::ScratchEnvironment dumb(testing::ScratchEnvironment::Variables{{"TERM", "dumb"}});
  const std::string dull = testing::capture_terminal([] { Logger::standard().error("bad"); });
  CHECK(dull.find('\x1b') == std::string::npos);
}

TEST_CASE("log: standard lines are JSON where there is no terminal", "[log][unit]") {
  CHECK(only_line(testing::capture_stderr([] { Logger::standard().info("m"); }))["message"] == "m");
}

TEST_CASE("log: levels and fields are those of the logger and its copies", "[log][unit]") {
  std::vector<std::string> seen;
  Logger base(Level::info,
              [&](Level level, std::string_view message, const nlohmann::json& fields) {
                seen.push_back(std::string(to_string(level)) + " " + std::string(message) + " " +
                               dump_json(fields));
              });
  const Logger child = base.with({{"a", 1}, {"b", 1}}).with({{"b", 2}});
  child.debug("too fine");
  child.info("one", {{"c", 3}, {"a", 9}});
  base.set_level(Level::error);
  child.warn("too fine now");
  child.error("two");
  base.set_level(Level::off);
  child.error("nothing");
  CHECK(seen ==
        std::vector<std::string>{R"(info one {"a":9,"b":2,"c":3})", R"(error two {"a":1,"b":2})"});
}

TEST_CASE("log: a logger without sink is silent and one that throws is survived", "[log][unit]") {
  const std::string silent = testing::capture_stderr([] {
    Logger().error("nobody hears");
    Logger moved;
    Logger other = std::move(moved);
    moved.error("gone");  // NOLINT: a logger that was moved from is silent
    moved.set_level(Level::debug);
    CHECK_FALSE(moved.enabled(Level::error));
  });
  CHECK(silent.empty());
  const std::string lost = testing::capture_stderr([] {
    Logger(Level::info, [](Level, std::string_view, const nlohmann::json&) { throw 1; }).info("x");
  });
  CHECK(lost.find("a log line was lost") != std::string::npos);
}

TEST_CASE("log: who stops reading loses lines that are counted and holds nobody up",
          "[log][unit]") {
  std::string before;
  std::string after;
  {
    const StuckStderr stuck;
    const Logger log = Logger::json();
    // Many times what a pipe holds: to wait for a reader would be to wait for ever.
    for (int i = 0; i < 300; ++i) log.info("line", {{"text", std::string(10'000, 'x')}});
    before = stuck.drain();
    log.info("goes on");
    after = stuck.drain();
  }
  const auto whole = static_cast<int>(std::ranges::count(before, '\n'));
  const std::vector<std::string> lines = lines_of(after);
  REQUIRE(lines.size() >= 2);
  CHECK(parse_json(lines.back()).value()["message"] == "goes on");
  const nlohmann::json lost = parse_json(lines[lines.size() - 2]).value();
  CHECK(lost["message"] == "log lines were lost");
  CHECK(lost["lines"] == 300 - whole);
}

TEST_CASE("log: lines of many threads do not mix", "[log][unit]") {
  const std::string text = testing::capture_stderr([] {
    const Logger log = Logger::json();
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([log, t] {
        for (int i = 0; i < 200; ++i) log.info("line", {{"t", t}, {"text", std::string(300, 'x')}});
      });
    }
  });
  const std::vector<std::string> lines = lines_of(text);
  REQUIRE(lines.size() == 800);
  for (const std::string& line : lines) REQUIRE(parse_json(line).ok());
}

}  // namespace dmm
