// Goal: a view is kept, seen and approved from the shell. Method: the tool as a process beside a
// live namespace, on the example view.

#include <catch2/catch.hpp>

#include <thread>

#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

using testing::wait_for;

const std::string kExample = std::string(DMM_VIEWS_DIR) + "/loud-players.yaml";

// `dmm view run` beside a namespace with a zone.
struct Kept {
  Site site;
  Bucket bucket = site.bucket();
  std::jthread worker;  // works zones, so that they are stored entries
  std::unique_ptr<testing::ChildProcess> keeper;

  // In place of the keeper there is, which is to end first.
  void keep(const std::string& snapshots) {
    CHECK(keeper->stop(SIGINT).code == 0);
    keeper = std::make_unique<testing::ChildProcess>(
        tool(), site.options({"view", "run", kExample, "--snapshots", snapshots}));
  }

  explicit Kept(const std::string& ns) : site(ns) {
    bucket.register_type("zone", AnyMaterializer{[](Context&, json&) { return Outcome::done(); }});
    worker = std::jthread([this](const std::stop_token& stop) { bucket.work(stop); });
    allow(5);
    keeper =
        std::make_unique<testing::ChildProcess>(tool(), site.options({"view", "run", kExample}));
  }
  // Sets what the zone allows, and waits until it is stored.
  void allow(int volume) {
    bucket.notify({"zone", "kitchen"}, {{"volume_max", volume}});
    wait_for("the zone", [&] {
      const auto zone = bucket.inspect().get({"zone", "kitchen"});
      return zone && zone->phase == Phase::settled;
    });
  }
  void report(const std::string& device, int volume) {
    bucket.report("speaker", device, {{"zone", "kitchen"}, {"volume", volume}});
  }
  json view() const { return site.dmm({"view", "show", "loud-players", "-o", "json"}).document(); }
  void wait_rows(int rows) {
    wait_for("the rows", [&] {
      const Result shown = site.dmm({"view", "show", "loud-players", "-o", "json"});
      if (shown.code != 0) return false;
      const json state = shown.document();
      return state["loaded"] == true && state["rows"] == rows;
    });
  }
};

TEST_CASE("view: a file is kept and what it notifies is seen", "[cli][view][integration]") {
  Kept kept("views");
  kept.report("quiet", 3);
  kept.report("loud", 9);
  kept.wait_rows(1);
  const json matter = kept.bucket.matter({"volume", "loud"});
  CHECK(matter == json{{"id", "loud"}, {"volume", 9}, {"volume_max", 5}});
  const json views = kept.site.dmm({"view", "ls", "-o", "json"}).document();
  REQUIRE(views.size() == 1);
  CHECK(views[0]["inputs"][0]["description"] == "reports of speaker");
  CHECK(views[0]["inputs"][1]["rows"] == 1);
  const Result table = kept.site.dmm({"view", "ls"});
  CHECK(table.out.find("loud-players") != std::string::npos);
  CHECK(table.out.find("current") != std::string::npos);
  const Result shown = kept.site.dmm({"view", "show", "loud-players"});
  CHECK(shown.out.find("cache of zone") != std::string::npos);
  CHECK(kept.keeper->stop(SIGINT).code == 0);
  CHECK(kept.keeper->output().find("1 identities notified") != std::string::npos);
}

TEST_CASE("view: a keeper with a directory for snapshots begins with what it had read",
          "[cli][view][integration]") {
  Kept kept("snapshots");
  const testing::TemporaryDirectory directory;
  kept.report("loud", 9);
  kept.wait_rows(1);
  const auto said = [&](const std::string& words) {
    const Result shown = kept.site.dmm({"view", "show", "loud-players"});
    return shown.out.find(words) != std::string::npos;
  };
  CHECK_FALSE(said("began"));
  kept.keep(directory.path().string());
  wait_for("the cold beginning to be shown",
           [&] { return said("began cold: there is no snapshot"); });
  kept.wait_rows(1);
  CHECK(kept.view()["snapshot_at_ms"] == 0);
  kept.keep(directory.path().string());
  wait_for("the snapshot to be shown", [&] { return said("began with a snapshot"); });
  kept.wait_rows(1);
  CHECK(kept.view()["notified"] == 0);
}

TEST_CASE("view: held removals are shown and approved", "[cli][view][integration]") {
  Kept kept("held");
  std::vector<std::pair<std::string, json>> loud;
  for (int i = 0; i < 120; ++i) {
    loud.emplace_back("s" + std::to_string(i), json{{"zone", "kitchen"}, {"volume", 9}});
  }
  CHECK(kept.bucket.report_all("speaker", loud).empty());
  kept.wait_rows(120);
  CHECK(kept.site.dmm({"view", "approve", "loud-players", "--yes"}).code == 4);
  kept.allow(50);
  wait_for("removals to be held", [&] { return kept.view()["held"] == 120; });
  const Result shown = kept.site.dmm({"view", "show", "loud-players"});
  CHECK(shown.out.find("held: 120 removals") != std::string::npos);
  CHECK(kept.site.dmm({"view", "approve", "loud-players"}).code == 2);  // nobody can be asked
  CHECK(kept.site.dmm({"view", "approve", "loud-players", "--yes"}).code == 0);
  wait_for("the removals", [&] { return kept.view()["removed"] == 120; });
}

// A view like the example, but that takes what is as loud as allowed, too.
std::string also_equal(const testing::TemporaryDirectory& files) {
  std::string text = testing::read_file(kExample);
  const auto at = text.find("@gt");
  REQUIRE(at != std::string::npos);
  text.replace(at, 3, "@gte");
  testing::write_file(files / "next.yaml", text);
  return (files / "next.yaml").string();
}

TEST_CASE("view: a change is planned and applied and rolled back", "[cli][view][integration]") {
  Kept kept("changed");
  const testing::TemporaryDirectory files;
  const std::string next = also_equal(files);
  kept.report("equal", 5);
  kept.report("loud", 9);
  kept.wait_rows(1);
  const Result plan = kept.site.dmm({"view", "plan", next});
  CHECK(plan.code == 0);
  CHECK(plan.out.find("1 added, 0 changed, 0 removed") != std::string::npos);
  const json planned = kept.site.dmm({"view", "plan", next, "-o", "json"}).document();
  CHECK(planned["samples"][0]["id"] == "equal");
  CHECK(kept.view()["release"] == 1);
  CHECK(kept.site.dmm({"view", "apply", next}).code == 2);  // nobody can be asked
  const Result applied = kept.site.dmm({"view", "apply", next, "--max", "60/s", "--wait", "--yes"});
  CHECK(applied.code == 0);
  CHECK(kept.view()["rows"] == 2);
  CHECK(kept.site.dmm({"view", "verify", "loud-players"}).code == 0);
  CHECK(kept.site.dmm({"view", "rollback", "loud-players", "--wait", "--yes"}).code == 0);
  CHECK(kept.view()["rows"] == 1);
  const json release = kept.view()["release"];
  CHECK(release == 3);
  CHECK(kept.site.dmm({"view", "apply", next, "--max", "fast", "--yes"}).code == 2);
  CHECK(kept.site.dmm({"view", "rollback", "nothing", "--yes"}).code == 4);
  const json lag = kept.site.dmm({"view", "lag", "loud-players", "-o", "json"}).document();
  CHECK(lag["inputs"][0]["behind"] == 0);
}

TEST_CASE("view: a cache that someone wrote over is found and repaired",
          "[cli][view][integration]") {
  Kept kept("verified");
  kept.report("loud", 9);
  kept.wait_rows(1);
  // Not the view's: whole news take its place.
  kept.bucket.notify({"volume", "loud"}, {{"id", "loud"}, {"volume", 1}});
  const Result found = kept.site.dmm({"view", "verify", "loud-players", "--settle", "0.2"});
  CHECK(found.code == 1);
  CHECK(found.out.find("1 changed") != std::string::npos);
  CHECK(found.out.find("they do NOT agree") != std::string::npos);
  CHECK(kept.site.dmm({"view", "verify", "loud-players", "--settle", "0.2", "--repair"}).code == 0);
  wait_for("the repair", [&] {
    return kept.site.dmm({"view", "verify", "loud-players", "--settle", "0.2"}).code == 0;
  });
}

TEST_CASE("explain: a row names what it rests on", "[cli][view][integration]") {
  Kept kept("explained");
  kept.report("loud", 9);
  kept.report("quiet", 1);
  kept.wait_rows(1);
  const Result why = kept.site.dmm({"explain", "volume", "loud"});
  CHECK(why.code == 0);
  CHECK(why.out.find("speaker loud") != std::string::npos);
  CHECK(why.out.find("zone kitchen") != std::string::npos);
  CHECK(why.out.find("told last: speaker loud") != std::string::npos);
  const json document = kept.site.dmm({"explain", "volume", "loud", "-o", "json"}).document();
  CHECK(document["view"] == "loud-players");
  CHECK(document["row"]["inputs"].size() == 2);
  CHECK(document["matter"]["view"] == "loud-players");
  CHECK(kept.site.dmm({"get", "volume", "loud"}).out.find("loud-players, as of speaker ") !=
        std::string::npos);
  const json got = kept.site.dmm({"get", "volume", "loud", "-o", "json"}).document();
  CHECK(got["as_of"].size() == 2);
  CHECK(got["as_of"][0]["position"] != "");
  const Result absent = kept.site.dmm({"explain", "volume", "quiet"});
  CHECK(absent.code == 0);
  CHECK(absent.out.find("has no row of this id") != std::string::npos);
  CHECK(absent.out.find("nothing came of it here") != std::string::npos);
  CHECK(kept.site.dmm({"explain", "lamp", "x"}).code == 4);
  CHECK(kept.site.dmm({"explain", "zone", "kitchen"}).out.find("belongs to no view") !=
        std::string::npos);
}

TEST_CASE("view: bad files and names are refused with their place", "[cli][view][bad_input]") {
  const Site site("refused");
  const testing::TemporaryDirectory files;
  const auto run = [&](const std::string& text) {
    const auto file = files / "v.yaml";
    testing::write_file(file, text);
    return site.dmm({"view", "run", file.string()});
  };
  CHECK(run("").code == 2);
  CHECK(run("[]").err.find("DMM-0601") != std::string::npos);
  CHECK(run("view: v\ntype: t\ninputs: [{reports: r}]\npipeline: [{\"@selec\": 1}]\n")
            .err.find("DMM-0502") != std::string::npos);
  CHECK(run("view: v\ntype: t\ninputs: [{reports: r, colour: red}]\npipeline: []\n")
            .err.find("inputs[0]") != std::string::npos);
  CHECK(run(std::string(200'000, '[')).code == 2);
  CHECK(run("view: \xff").code == 2);
  CHECK(site.dmm({"view", "run", "/nowhere"}).code == 2);
  CHECK(site.dmm({"view", "show", "nothing"}).code == 4);
  CHECK(site.dmm({"view", "ls"}).code == 0);
  CHECK(site.dmm({"view"}).code == 2);
}

}  // namespace
}  // namespace dmm::cli_test
