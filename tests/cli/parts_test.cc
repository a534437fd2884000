// Goal: what the tool shows is right at every width and for every value. Method: the parts alone.

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <sstream>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/line_reader.h"
#include "dmm/cli/table.h"
#include "dmm/cli/terminal.h"
#include "dmm/text/yaml.h"

namespace dmm::cli {
namespace {

using namespace std::chrono_literals;

// A pipe that holds a text and has no writer any more.
class Source final {
 public:
  explicit Source(const std::string& text, bool open = false) {
    REQUIRE(::pipe(fds_) == 0);
    REQUIRE(::write(fds_[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    if (!open) end();
  }
  ~Source() {
    end();
    ::close(fds_[0]);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  void end() {
    if (fds_[1] >= 0) ::close(fds_[1]);
    fds_[1] = -1;
  }
  int fd() const { return fds_[0]; }

 private:
  int fds_[2] = {-1, -1};
};

std::size_t widest_line(const std::string& text) {
  std::size_t widest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    widest = std::max(widest, display_width(line));
  }
  return widest;
}

TEST_CASE("durations: people read one unit", "[cli][parts][unit]") {
  CHECK(human_duration(0ms) == "0 ms");
  CHECK(human_duration(-5ms) == "0 ms");
  CHECK(human_duration(999ms) == "999 ms");
  CHECK(human_duration(1'000ms) == "1.0 s");
  CHECK(human_duration(9'999ms) == "9.9 s");
  CHECK(human_duration(119'999ms) == "119 s");
  CHECK(human_duration(120s) == "2 min");
  CHECK(human_duration(2h) == "2 h");
  CHECK(human_duration(48h) == "2 d");
}

TEST_CASE("ages: the past is ago and the future is in", "[cli][parts][unit]") {
  const Time now = std::chrono::system_clock::now();
  CHECK(human_age(std::nullopt, now).empty());
  CHECK(human_age(now - 42s, now) == "42 s ago");
  CHECK(human_age(now + 42s, now) == "in 42 s");
  CHECK(human_age(now + 100ms, now) == "0 ms ago");
}

TEST_CASE("numbers: sizes and counts are readable", "[cli][parts][unit]") {
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(1'000) == "1.0 kB");
  CHECK(human_bytes(999'949'999) == "999.9 MB");
  CHECK(human_bytes(UINT64_MAX) == "18.4 EB");
  CHECK(human_count(0) == "0");
  CHECK(human_count(999) == "999");
  CHECK(human_count(1'234'567) == "1,234,567");
  CHECK(counted(1, "report", "reports") == "1 report");
}

TEST_CASE("times: programs get RFC 3339 in UTC", "[cli][parts][unit]") {
  CHECK(rfc3339(Time(0ms)) == "1970-01-01T00:00:00.000Z");
  CHECK(rfc3339(Time(1'769'903'999'123ms)) == "2026-01-31T23:59:59.123Z");
  CHECK(rfc3339(Time(-1ms)) == "1969-12-31T23:59:59.999Z");
}

TEST_CASE("clip: a text never takes more columns than it is given", "[cli][parts][unit]") {
  CHECK(clip("kitchen", 7, true) == "kitchen");
  CHECK(clip("kitchen", 6, true) == "kitch…");
  CHECK(clip("kitchen", 6, false) == "kitc..");
  for (const std::string text : {"äöüäöüäöü", "plain text", "\xff\xfe broken", "日本語日本語"}) {
    for (std::size_t width = 0; width < 12; ++width) {
      INFO(text << " at " << width);
      CHECK(display_width(clip(text, width, true)) <= std::max<std::size_t>(width, 1));
    }
  }
}

TEST_CASE("wrap: every word stays and no line is too wide", "[cli][parts][unit]") {
  const std::string text = "one two threeverylongwordindeed four";
  const std::string wrapped = wrap(text, 12, 2);
  CHECK(widest_line(wrapped) <= 12);
  std::string without;
  for (const char c : wrapped) {
    if (c != '\n' && c != ' ') without += c;
  }
  CHECK(without == "onetwothreeverylongwordindeedfour");
  CHECK(wrap(text, 0, 2) == text);
}

TEST_CASE("table: a pipe gets everything and a terminal what fits", "[cli][parts][unit]") {
  Table table(
      {{.title = "TYPE"}, {.title = "ID", .flexible = true}, {.title = "N", .number = true}});
  table.add({{"player"}, {std::string(100, 'x')}, {"7"}});
  table.add({{"player"}, {"\x1b[31mred"}, {""}});
  Terminal pipe;
  const std::string all = table.render(pipe);
  CHECK(all.find(std::string(100, 'x')) != std::string::npos);
  CHECK(all.find('\x1b') == std::string::npos);
  CHECK(all.find("TYPE") == 0);
  for (std::size_t width = 1; width < 60; ++width) {
    Terminal narrow;
    narrow.width = width;
    narrow.unicode = true;
    INFO("width " << width);
    CHECK(widest_line(table.render(narrow)) <= width);
  }
}

TEST_CASE("lines: ends and limits are found whatever the pieces", "[cli][parts][unit]") {
  const Source source("a\r\n\n" + std::string(50, 'x') + "\nlast");
  LineReader reader(source.fd(), 10);
  std::string line;
  REQUIRE(reader.next(line, 1s) == LineReader::Event::line);
  CHECK(line == "a");
  REQUIRE(reader.next(line, 1s) == LineReader::Event::line);
  CHECK(line.empty());
  REQUIRE(reader.next(line, 1s) == LineReader::Event::too_long);
  CHECK(reader.line_number() == 3);
  REQUIRE(reader.next(line, 1s) == LineReader::Event::line);
  CHECK(line == "last");
  CHECK(reader.line_number() == 4);
  CHECK(reader.next(line, 1s) == LineReader::Event::end);
  CHECK(reader.next(line, 1s) == LineReader::Event::end);
}

TEST_CASE("lines: a line at the limit is given and one byte more is not", "[cli][parts][unit]") {
  const Source source(std::string(10, 'x') + "\n" + std::string(11, 'y') + "\n");
  LineReader reader(source.fd(), 10);
  std::string line;
  CHECK(reader.next(line, 1s) == LineReader::Event::line);
  CHECK(line.size() == 10);
  CHECK(reader.next(line, 1s) == LineReader::Event::too_long);
  CHECK(reader.next(line, 1s) == LineReader::Event::end);
}

TEST_CASE("lines: half a line is waited for and no longer than asked", "[cli][parts][unit]") {
  Source source("half", true);
  LineReader reader(source.fd(), 10);
  std::string line;
  CHECK(reader.next(line, 1ms) == LineReader::Event::idle);
  source.end();
  CHECK(reader.next(line, 1s) == LineReader::Event::line);
  CHECK(line == "half");
}

TEST_CASE("exit codes: scripts can tell errors apart", "[cli][parts][unit]") {
  CHECK(exit_code_of(Error(code::unreachable, "")) == 3);
  CHECK(exit_code_of(Error(code::access_denied, "")) == 3);
  CHECK(exit_code_of(Error(code::no_jetstream, "")) == 3);
  CHECK(exit_code_of(Error(code::stream_missing, "")) == 4);
  CHECK(exit_code_of(Error(code::not_found, "")) == 4);
  CHECK(exit_code_of(Error(code::write_conflict, "")) == 5);
  CHECK(exit_code_of(Error(code::timed_out, "")) == 6);
  CHECK(exit_code_of(Error(code::in_doubt, "")) == 6);
  CHECK(exit_code_of(Error(code::not_json, "")) == 2);
  CHECK(exit_code_of(Error(code::server_refused, "")) == 1);
}

TEST_CASE("yaml: what is written is read as the same value", "[cli][parts][unit]") {
  using nlohmann::json;
  const json value = GENERATE(values<json>(
      {nullptr, true, 0, -1.5, 1e300, "", "word", "two words", json::array(), json::object(),
       json::array({1, json::array(), json::array({json::object()})}),
       json{{"a", {{"b", {1, {{"c", nullptr}, {"d", "e"}}}}}}, {"empty", json::object()}},
       json::array({json{{"first", 1}, {"second", json::array({1, 2})}}, "x"})}));
  CAPTURE(value.dump());
  CHECK(text::parse_yaml(text::yaml_text(value)) == value);
  for (const char* text : {"yes",     "No",  "on",    "null",       "~",     "1",
                           "007",     "1e3", "0x1F",  ".inf",       "NaN",   "y",
                           "-",       "- a", "a: b",  "a #b",       "#a",    " a",
                           "a ",      "'a'", "\"a\"", "a\nb",       "\t",    "\x1b[31m",
                           "@select", "{}",  "[1]",   "2026-01-31", "12:30", "\xC3\xBC\xE2\x82\xAC",
                           "*a",      "&a",  "!a",    "%a",         "---"}) {
    const json pair{{"key", text}, {text, "value"}};
    CAPTURE(text);
    CHECK(text::parse_yaml(text::yaml_text(pair)) == pair);
  }
}

TEST_CASE("documents: a refused message is of the type or kind that its subject names",
          "[cli][parts][unit]") {
  const auto name = [](const char* what, const std::string& subject) {
    return std::string(name_in(Refused{what, subject, {}, {}, {}, {}}));
  };
  // Nothing that only stands somewhere else in it.
  CHECK(name("token", "dmm.music.work.lamp.player.x") == "lamp");
  CHECK(name("token", "dmm.player.work.lamp.7.x") == "lamp");
  CHECK(name("token", "dmm.music.work.lamp.7.xxxx...") == "lamp");
  CHECK(name("report", "dmm.music.report.player.a.b") == "player");
  CHECK(name("view", "view.players.zones.living room") == "players");
  CHECK(name("report", "dmm.music") == "");
}

TEST_CASE("documents: a value that is no JSON is shown as text", "[cli][parts][unit]") {
  nlohmann::json document;
  set_value(document, "value", "{\"a\":1}");
  set_value(document, "broken", "{\"a\":");
  set_value(document, "nothing", "null");
  CHECK(document == nlohmann::json{{"value", {{"a", 1}}},
                                   {"broken", nullptr},
                                   {"broken_text", "{\"a\":"},
                                   {"nothing", nullptr}});
}

}  // namespace
}  // namespace dmm::cli
