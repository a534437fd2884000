// Goal: of several observers of a kind one works at a time, and another takes over when it dies.

#include <catch2/catch.hpp>

#include <algorithm>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

std::size_t runs_by(const std::vector<Run>& runs, pid_t pid) {
  return static_cast<std::size_t>(
      std::ranges::count_if(runs, [&](const Run& run) { return run.pid == pid; }));
}

}  // namespace

TEST_CASE("standby: an observer has a warm standby too", "[standby][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  WorkerProcess first(server, journal, {"--observe", "speaker"});
  bucket.report("speaker", "a", json{{"value", 1}});
  wait_for("the first report", [&] { return settled_with(bucket, thing("a"), 1); });
  WorkerProcess second(server, journal, {"--observe", "speaker"});
  bucket.report("speaker", "a", json{{"value", 2}});
  wait_for("the second report", [&] { return settled_with(bucket, thing("a"), 2); });
  CHECK(runs_by(read_runs(journal, "report"), second.pid()) == 0);
  first.kill();
  bucket.report("speaker", "a", json{{"value", 3}});
  wait_for("the third report", [&] { return settled_with(bucket, thing("a"), 3); });
  const std::vector<Run> calls = read_runs(journal, "report");
  CHECK(calls.back().pid == second.pid());
  CHECK(calls.size() == 3);
}
