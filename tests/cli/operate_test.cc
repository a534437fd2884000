// Goal: who looks for trouble finds it: by phase, age and error, in its history, and in an archive
// that gives nothing away. Method: call the tool against a live namespace.

#include <catch2/catch.hpp>

#include <filesystem>
#include <thread>

#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "dmm/text/yaml.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

using namespace std::chrono_literals;

// Players of which some settle, one fails and one is given up.
class Scene {
 public:
  explicit Scene(const std::string& ns) : site(ns), bucket_(site.bucket()) {
    AnyMaterializer player;
    player.materialize = [](Context&, json& cache) {
      if (cache.value("fail", false)) throw std::runtime_error("the player refused");
      if (cache.value("park", false)) return Outcome::park("no such song");
      return Outcome::done();
    };
    bucket_.register_type("player", std::move(player), {.backoff_first = 10min, .backoff_max = 1h});
    thread_ = std::jthread([this](const std::stop_token& stop) { bucket_.work(stop); });
    Bucket hand = site.bucket();
    hand.notify({"player", "kitchen"}, {{"song", "Aria"}});
    hand.notify({"player", "attic"}, {{"song", "Ballad"}});
    hand.notify({"player", "hall"}, {{"fail", true}});
    hand.notify({"player", "cellar"}, {{"park", true}});
    testing::wait_for("all to be worked", [&] {
      return count({"--phase", "settled"}) == 2 && count({"--failing"}) == 1 &&
             count({"--parked"}) == 1;
    });
  }
  json list(Arguments more) const {
    Arguments arguments{"ls", "player", "-o", "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = site.dmm(std::move(arguments));
    REQUIRE(result.code == 0);
    return result.document();
  }
  std::size_t count(Arguments more) const { return list(std::move(more)).size(); }
  std::vector<std::string> ids(Arguments more) const {
    std::vector<std::string> ids;
    for (const json& one : list(std::move(more))) ids.push_back(one.at("id"));
    return ids;
  }

  const Site site;

 private:
  Bucket bucket_;
  std::jthread thread_;
};

}  // namespace

TEST_CASE("ls: what is wrong is found by phase age code and error", "[cli][operate][integration]") {
  const Scene scene("operate_ls");
  CHECK(scene.count({}) == 4);
  CHECK(scene.ids({"--phase", "failing,parked"}) == std::vector<std::string>{"cellar", "hall"});
  CHECK(scene.ids({"--phase", "failing", "--parked"}).size() == 2);
  CHECK(scene.ids({"--error", "REFUSED"}) == std::vector<std::string>{"hall"});
  CHECK(scene.ids({"--code", "DMM-9999"}).empty());
  CHECK(scene.ids({"--older-than", "1h"}).empty());
  CHECK(scene.count({"--older-than", "0.001"}) == 4);
  CHECK(scene.ids({"--sort", "phase"}).front() == "cellar");
  CHECK(scene.ids({"--sort", "tries"}).front() != "kitchen");
  CHECK(scene.ids({"--sort", "age"}).size() == 4);
}

TEST_CASE("ls: selections that make no sense are refused", "[cli][operate][integration]") {
  const Site site("operate_refused");
  const auto [arguments, said] = GENERATE(table<Arguments, std::string>({
      {{"ls", "--phase", "broken"}, "--phase"},
      {{"ls", "--error", "("}, "regular expression"},
      {{"ls", "--error", std::string(2'000, 'a')}, "too long"},
      {{"ls", "--older-than", "yesterday"}, "--older-than"},
      {{"ls", "--older-than", "-1"}, "--older-than"},
      {{"ls", "--sort", "colour"}, "--sort"},
      {{"ls", "--watch", "0"}, "--watch"},
      {{"ls", "-o", "xml"}, "--output"},
  }));
  const Result result = site.dmm(arguments);
  CHECK(result.code == 2);
  CHECK_THAT(result.err, Catch::Contains(said));
}

TEST_CASE("ls: it is shown again and again until it is interrupted",
          "[cli][operate][integration]") {
  const Site site("operate_watch");
  const auto [options, documents] = GENERATE(table<Arguments, bool>({
      {{"ls", "--watch", "0.1", "-o", "json"}, true},
      {{"ls", "--watch", "0.1"}, false},
  }));
  testing::ChildProcess child(tool(), site.options(options));
  site.bucket().notify({"player", "kitchen"}, {{"song", "Aria"}});
  testing::wait_for("a few answers", [&, documents = documents] {
    const std::string out = child.output();
    const std::string said = documents ? "\"kitchen\"" : "kitchen";
    return out.find(said) != out.rfind(said);
  });
  CHECK(child.stop(SIGINT).code == 130);
}

TEST_CASE("output: YAML says what JSON says", "[cli][operate][integration]") {
  const Scene scene("operate_yaml");
  const Result yaml = scene.site.dmm({"get", "player", "hall", "-o", "yaml"});
  REQUIRE(yaml.code == 0);
  const Result document = scene.site.dmm({"get", "player", "hall", "-o", "json"});
  CHECK(text::parse_yaml(yaml.out) == document.document());
  CHECK(text::parse_yaml(scene.site.dmm({"ls", "-o", "yaml"}).out) == scene.list({}));
}

TEST_CASE("top: it shows how fast the work goes and what waits", "[cli][operate][integration]") {
  const Scene scene("operate_top");
  std::jthread load([&](const std::stop_token& stop) {
    Bucket hand = scene.site.bucket();
    for (int i = 0; !stop.stop_requested(); ++i) hand.notify({"player", "busy"}, {{"song", i}});
  });
  const Result result = scene.site.dmm({"top", "--every", "0.5", "--count", "3", "-o", "json"});
  REQUIRE(result.code == 0);
  const std::string last = result.out.substr(result.out.rfind('\n', result.out.size() - 2) + 1);
  const json document = json::parse(last);
  CHECK(document.at("workers") == 1);
  const json& player = document.at("types").at(0);
  CHECK(player.at("type") == "player");
  CHECK(player.at("runs_per_s") > 1);
  CHECK(player.at("parked") == 1);
  CHECK(player.at("lanes") == 64);
  const Result shown = scene.site.dmm({"top", "--count", "1"});
  CHECK_THAT(shown.out, Catch::Contains("RUNS/S") && Catch::Contains("player"));
}

TEST_CASE("history: entry news failures and the next run are told in their order",
          "[cli][operate][integration]") {
  const Scene scene("operate_history");
  const auto told = [&](const std::string& id) {
    std::vector<std::string> what;
    const Result result = scene.site.dmm({"history", "player", id, "-o", "json"});
    REQUIRE(result.code == 0);
    for (const json& event : result.document()) what.push_back(event.at("what"));
    return what;
  };
  CHECK(told("kitchen") == std::vector<std::string>{"stored"});
  CHECK(told("hall").front() == "news");
  CHECK(told("hall").back() == "next run");
  CHECK(told("cellar").back() == "parked");
  CHECK_THAT(scene.site.dmm({"history", "player", "hall"}).out, Catch::Contains("refused"));
  CHECK(scene.site.dmm({"history", "player", "nobody"}).code == 4);
}

TEST_CASE("diff: what waits to be done is told beside what was stored",
          "[cli][operate][integration]") {
  const Scene scene("operate_diff");
  scene.site.dmm({"pause", "player"});
  Bucket hand = scene.site.bucket();
  hand.notify({"player", "kitchen"}, {{"song", "Canon"}, {"volume", 3}});
  const Result result = scene.site.dmm({"diff", "player", "kitchen", "-o", "json"});
  REQUIRE(result.code == 0);
  CHECK(result.document().at("patch") ==
        json::diff({{"song", "Aria"}}, {{"song", "Canon"}, {"volume", 3}}));
  const Result shown = scene.site.dmm({"diff", "player", "kitchen"});
  CHECK_THAT(shown.out, Catch::Contains("- /song: \"Aria\"") &&
                            Catch::Contains("+ /song: \"Canon\"") &&
                            Catch::Contains("+ /volume: 3"));
  const std::string revision =
      std::to_string(result.document().at("from").at("revision").get<std::uint64_t>());
  CHECK(scene.site.dmm({"diff", "player", "kitchen", revision, revision, "-o", "json"})
            .document()
            .at("patch")
            .empty());
  const Result missing = scene.site.dmm({"diff", "player", "kitchen", "999999"});
  CHECK(missing.code == 4);
  CHECK_THAT(missing.err, Catch::Contains("999999") && Catch::Contains(revision));
}

TEST_CASE("edit: what the editor left is brought as news", "[cli][operate][integration]") {
  const Scene scene("operate_edit");
  const auto edit = [&](const std::string& editor) {
    return scene.site.dmm({"edit", "player", "kitchen"}, "", {{"DMM_EDITOR", editor}});
  };
  CHECK(edit("sed -i s/Aria/Canon/").code == 0);
  testing::wait_for("the new song", [&] {
    return scene.site.dmm({"get", "player", "kitchen", "--value"}).out.find("Canon") !=
           std::string::npos;
  });
  const Result same = edit("true");
  CHECK(same.code == 0);
  CHECK_THAT(same.out, Catch::Contains("nothing was changed"));
  CHECK(edit("false").code == 2);
  const Result broken = edit("echo nonsense >");
  CHECK(broken.code == 2);
  CHECK_THAT(broken.err, Catch::Contains("no value of a cache"));
  const Result list = edit("echo '[1]' >");
  CHECK_THAT(list.err, Catch::Contains("has to be an object"));
}

TEST_CASE("edit: what somebody else changed meanwhile is not overwritten",
          "[cli][operate][integration]") {
  const Scene scene("operate_conflict");
  const testing::TemporaryDirectory directory;
  const std::string script = (directory / "editor").string();
  testing::write_file(script, "sed -i s/Aria/Canon/ \"$1\"\n" + tool() +
                                  " put player kitchen '{\"song\":\"Duet\"}' --wait 10\n");
  const Result result =
      scene.site.dmm({"edit", "player", "kitchen"}, "", {{"DMM_EDITOR", "sh " + script}});
  CHECK(result.code != 0);
  CHECK_THAT(result.err, Catch::Contains("Canon"));
  CHECK_THAT(scene.site.dmm({"get", "player", "kitchen", "--value"}).out, Catch::Contains("Duet"));
}

TEST_CASE("bundle: it says how the namespace stands and gives no value away",
          "[cli][operate][integration]") {
  const Scene scene("operate_bundle");
  const testing::TemporaryDirectory directory;
  const std::string file = (directory / "support.tar.gz").string();
  const Result result = scene.site.dmm({"bundle", file, "-o", "json"});
  REQUIRE(result.code == 0);
  testing::ChildOptions tar;
  tar.arguments = {"-xzf", file, "-C", directory.path().string()};
  const auto unpacked = testing::run("tar", std::move(tar));
  REQUIRE(unpacked.status.success());
  std::string all;
  const json written = result.document();
  for (const json& part : written.at("parts")) {
    const auto path = directory / "support" / (part.get<std::string>() + ".json");
    const std::string text = testing::read_file(path);
    CHECK(json::accept(text));
    all += text;
  }
  CHECK_THAT(all, Catch::Contains("the player refused"));
  CHECK_THAT(all, !Catch::Contains("Ballad"));
  CHECK(json::parse(testing::read_file(directory / "support" / "identities.json"))
            .at("counts")
            .at("player")
            .at("settled") == 2);
  CHECK(scene.site.dmm({"bundle", file}).code == 2);  // nobody can be asked whether to replace it
  CHECK(scene.site.dmm({"bundle", file, "--yes"}).code == 0);
  CHECK(scene.site.dmm({"bundle", "/nowhere/at/all.tar.gz"}).code != 0);
}

TEST_CASE("completion: the manual page is one that man can read", "[cli][operate][integration]") {
  const Site site("operate_man");
  const Result page = site.dmm({"completion", "man"});
  REQUIRE(page.code == 0);
  CHECK_THAT(page.out, Catch::StartsWith(".TH DMM 1"));
  for (const char* verb : {"dmm ls", "dmm view plan", "dmm parked retry"}) {
    CHECK_THAT(page.out, Catch::Contains(std::string(".SS ") + verb));
  }
  if (!testing::find_program("groff")) return;
  testing::ChildOptions groff;
  groff.arguments = {"-man", "-Tutf8", "-ww", "-z"};
  groff.input = page.out;
  const auto read = testing::run("groff", std::move(groff));
  CHECK(read.status.success());
  CHECK(read.error_output.empty());
}

}  // namespace dmm::cli_test
