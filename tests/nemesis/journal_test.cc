// Goal: what was written is read again, whatever the moment of the writer's death.

#include "tests/nemesis/journal.h"

#include <catch2/catch.hpp>

#include <functional>

#include "dmm/testing/temporary_directory.h"

using namespace dmm::nemesis;
using dmm::testing::read_file;
using dmm::testing::TemporaryDirectory;
using dmm::testing::write_file;

namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("journal: runs are read as they were written", "[nemesis][unit]") {
  const TemporaryDirectory directory("dmm-test");
  const auto path = directory / "runs";
  {
    RunJournal journal(path);
    const auto first = journal.begun(7, 70, 3, 1'000);
    const auto second = journal.begun(8, 80, 3, 2'000);
    journal.ended(second, false);
    journal.ended(first, true);
    journal.begun(9, 90, 4, 3'000);
  }
  const std::vector<Run> runs = read_runs(path, 5);
  REQUIRE(runs.size() == 3);
  CHECK(runs[0].identity == 7);
  CHECK(runs[0].news == 70);
  CHECK(runs[0].epoch == 3);
  CHECK(runs[0].life == 5);
  CHECK(runs[0].begin == 1'000);
  CHECK(runs[0].end > 2'000);
  CHECK(runs[0].succeeded);
  CHECK_FALSE(runs[1].succeeded);
  CHECK(runs[1].end > 2'000);
  CHECK(runs[2].end == 0);
}

TEST_CASE("journal: a last line that is not whole is left out", "[nemesis][unit]") {
  const TemporaryDirectory directory("dmm-test");
  write_file(directory / "runs", "begin 1 5 7 70 3\nend 1 6 1\nbegin 2 7 8");
  CHECK(read_runs(directory / "runs", 0).size() == 1);
  write_file(directory / "notified", "5 7 70\n6 8");
  CHECK(read_notified(directory / "notified").size() == 1);
  CHECK(read_notified(directory / "missing").empty());
}

TEST_CASE("journal: a line that makes no sense is named", "[nemesis][unit]") {
  const TemporaryDirectory directory("dmm-test");
  write_file(directory / "runs", "begin 1 5 7 70 3\nend 2 6 1\n");
  CHECK(message_of([&] {
          read_runs(directory / "runs", 0);
        }).ends_with("runs:2: neither a run nor its end"));
  write_file(directory / "notified", "5 seven 70\n");
  CHECK(message_of([&] {
          read_notified(directory / "notified");
        }).ends_with(":1: \"seven\" is no number"));
}

TEST_CASE("journal: notifies are read as they were written", "[nemesis][unit]") {
  const TemporaryDirectory directory("dmm-test");
  const auto path = directory / "notified";
  const std::vector<Notified> told{{5, 7, 70}, {6, 8, 80}};
  {
    Journal journal(path);
    journal.append(lines_of(told));
    journal.append(lines_of(std::vector<Notified>{{7, 9, 90}}));
  }
  CHECK(read_file(path) == "5 7 70\n6 8 80\n7 9 90\n");
  const auto read = read_notified(path);
  REQUIRE(read.size() == 3);
  CHECK(read[1].at == 6);
  CHECK(read[1].identity == 8);
  CHECK(read[1].news == 80);
}

TEST_CASE("names: the id of an identity says its number", "[nemesis][unit]") {
  CHECK(number_of(id_of(0)) == 0);
  CHECK(number_of(id_of(4'095)) == 4'095);
  CHECK(number_of("x1") == -1);
  CHECK(number_of("d") == -1);
  CHECK(number_of("d1x") == -1);
}
