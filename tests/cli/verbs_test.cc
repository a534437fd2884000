// Goal: every verb does what its help says. Method: call the tool against a live namespace and look
// at what it says, what it returns, and what the library then sees.

#include <catch2/catch.hpp>

#include <stop_token>
#include <thread>

#include "dmm/nats/nats_transport.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"
#include "runner.h"

namespace dmm::cli_test {
namespace {

using namespace std::chrono_literals;

// A worker of type player in this process: settles unless the value says "fail" or "park".
class Worker final {
 public:
  explicit Worker(const Site& site) : bucket_(site.bucket()) {
    AnyMaterializer player;
    player.materialize = [](Context& context, json& cache) {
      if (cache.value("fail", false)) throw std::runtime_error("the player is \x1b[31mon fire");
      if (cache.value("park", false)) return Outcome::park("no such song");
      if (!context.deleted()) cache["played"] = true;
      return Outcome::done();
    };
    bucket_.register_type("player", std::move(player), {.backoff_first = 10s});
    thread_ = std::jthread([this](const std::stop_token& stop) { bucket_.work(stop); });
  }

 private:
  Bucket bucket_;
  std::jthread thread_;
};

void require_phase(const Site& site, const std::string& id, const std::string& phase) {
  testing::wait_for(id + " is " + phase, [&] {
    const Result result = site.dmm({"get", "player", id, "-o", "json"});
    return result.code == 0 && result.document().at("phase") == phase;
  });
}

TEST_CASE("init: creates a namespace and may be repeated", "[cli][verbs][integration]") {
  const Site site("init", false);
  CHECK(site.dmm({"ls"}).code == 4);
  const Result first = site.dmm({"init", "-o", "json"});
  REQUIRE(first.code == 0);
  CHECK(first.document().at("namespace") == "init");
  CHECK(first.document().at("streams").size() == 6);
  CHECK(site.dmm({"init"}).code == 0);
  CHECK(site.dmm({"ls"}).code == 0);
}

TEST_CASE("init: another generation follows on streams that were deleted",
          "[cli][verbs][integration]") {
  const Site site("again");
  CHECK(site.dmm({"ls", "--generation", "2"}).code == 4);
  // As long as the old streams are there they hold the subjects.
  CHECK(site.dmm({"init", "--generation", "2"}).code == 1);
  ConnectionOptions options;
  options.servers = {Site::server().url()};
  const auto transport = nats::connect(options, Logger());
  const wire::Names names("again");
  for (const auto& config : {names.work(1), names.cache(1), names.status(1), names.reports(1),
                             names.leases(1), names.shadows(1)}) {
    REQUIRE(transport->remove(config.name));
  }
  transport->close();
  CHECK(site.dmm({"ls"}).code == 4);
  CHECK(site.dmm({"init", "--generation", "2"}).code == 0);
  CHECK(site.dmm({"put", "player", "a", "{}", "--generation", "2"}).code == 0);
  CHECK(site.dmm({"ls", "-o", "json"}, {}, {{"DMM_GENERATION", "2"}}).document().size() == 1);
}

TEST_CASE("put and get: what was put is read back", "[cli][verbs][integration]") {
  const Site site("putget");
  const Result put = site.dmm({"put", "player", "kitchen", "{\"current_song\":\"A\"}"});
  CHECK(put.code == 0);
  CHECK(put.out == "player/kitchen: notified\n");
  CHECK(put.err.empty());
  const Result got = site.dmm({"get", "player", "kitchen", "-o", "json"});
  REQUIRE(got.code == 0);
  const json document = got.document();
  CHECK(document.at("phase") == "waiting");
  CHECK(document.at("value") == json{{"current_song", "A"}});
  CHECK(document.at("stored").is_null());
  CHECK(document.at("token") > 0);
  CHECK(document.at("revision") == 0);
  CHECK(document.at("notified_at").get<std::string>().back() == 'Z');
  CHECK(site.dmm({"get", "player", "kitchen", "--value"}).out == "{\"current_song\":\"A\"}\n");
  CHECK(site.dmm({"get", "player", "kitchen"}).out.find("waiting") != std::string::npos);
  CHECK(site.dmm({"put", "player", "kitchen", "-"}, "{\"b\": 2}\n").code == 0);
  CHECK(site.dmm({"put", "player", "kitchen"}, "{\"b\": 3}\n").code == 0);
  CHECK(site.dmm({"get", "player", "kitchen", "--value"}).out == "{\"b\":3}\n");
  const Result missing = site.dmm({"get", "player", "cellar"});
  CHECK(missing.code == 4);
  CHECK(missing.err.find("dmm: DMM-0405: ") == 0);
}

TEST_CASE("put: what is no JSON object is refused with its code", "[cli][verbs][integration]") {
  const Site site("putbad");
  const std::string deep = std::string(200'000, '[');
  for (const auto& [text, code] : std::vector<std::pair<std::string, std::string>>{
           {"", "DMM-0203"},
           {"{", "DMM-0203"},
           {"[1,2]", "DMM-0209"},
           {"17", "DMM-0209"},
           {"null", "DMM-0209"},
           {"{\"a\":1,\"a\":2}", "DMM-0213"},
           {"{\"a\":\"\xff\"}", "DMM-0205"},
           {"{\"a\":1e999}", "DMM-0206"},
           {deep, "DMM-0204"},
           {std::string(1'000'001, ' '), "DMM-0202"}}) {
    const Result result = site.dmm({"put", "player", "kitchen", "-"}, text + "\n");
    INFO(text.substr(0, 40) << "\n" << result.err);
    CHECK(result.code == 2);
    CHECK(result.err.find("dmm: " + code + ": ") == 0);
  }
  CHECK(site.dmm({"put", "player", "kitchen", "[1,2]"}).code == 2);
  CHECK(site.dmm({"get", "player", "kitchen"}).code == 4);
}

TEST_CASE("ids: every id that dmm takes can be typed", "[cli][verbs][integration]") {
  const Site site("ids");
  const std::vector<std::string> ids = {
      "a.b*c>d e/f", "grün", "", std::string(255, 'x'), "\xff\x01", "ls", "[a]", "++", "-x"};
  for (const std::string& id : ids) {
    INFO(id);
    CHECK(site.dmm({"put", "player", "--", id, "{}"}).code == 0);
    CHECK(site.dmm({"get", "player", "--", id}).code == 0);
  }
  CHECK(site.dmm({"put", "player", std::string(256, 'x'), "{}"}).code == 2);
  const json list = site.dmm({"ls", "-o", "json"}).document();
  CHECK(list.size() == ids.size());
}

TEST_CASE("ls: lists what there is and selects", "[cli][verbs][integration]") {
  const Site site("ls");
  CHECK(site.dmm({"ls"}).out.empty());
  CHECK(site.dmm({"ls", "-o", "json"}).document() == json::array());
  const Worker worker(site);
  REQUIRE(site.dmm({"put", "player", "good", "{}", "--wait", "20"}).code == 0);
  REQUIRE(site.dmm({"put", "player", "bad", "{\"fail\":true}"}).code == 0);
  REQUIRE(site.dmm({"put", "player", "ugly", "{\"park\":true}", "--wait", "20"}).code == 1);
  REQUIRE(site.dmm({"put", "lamp", "good", "{}"}).code == 0);
  require_phase(site, "bad", "failing");
  const auto ids = [&](Arguments more) {
    Arguments arguments{"ls", "-o", "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<std::string> found;
    for (const json& one : site.dmm(arguments).document()) {
      found.push_back(one.at("type").get<std::string>() + "/" + one.at("id").get<std::string>());
    }
    return found;
  };
  using Ids = std::vector<std::string>;
  CHECK(ids({}) == Ids{"lamp/good", "player/bad", "player/good", "player/ugly"});
  CHECK(ids({"player"}) == Ids{"player/bad", "player/good", "player/ugly"});
  CHECK(ids({"--failing"}) == Ids{"player/bad"});
  CHECK(ids({"player", "--parked"}) == Ids{"player/ugly"});
  CHECK(ids({"--parked", "--failing"}) == Ids{"player/bad", "player/ugly"});
  CHECK(ids({"nothing"}).empty());
  const std::string table = site.dmm({"ls", "--values"}).out;
  CHECK(table.find("DMM-0301") != std::string::npos);
  CHECK(table.find("{\"played\":true}") != std::string::npos);
  CHECK(table.find('\x1b') == std::string::npos);
  const json bad = site.dmm({"get", "player", "bad", "-o", "json"}).document();
  CHECK(bad.at("error_code") == "DMM-0301");
  CHECK(bad.at("attempts") >= 1);
  CHECK(bad.at("next_retry_at").is_string());
}

TEST_CASE("parked: is listed with its reason and runs again when told",
          "[cli][verbs][integration]") {
  const Site site("parked");
  CHECK(site.dmm({"parked"}).out.empty());
  const Worker worker(site);
  REQUIRE(site.dmm({"put", "player", "ugly", "{\"park\":true}"}).code == 0);
  require_phase(site, "ugly", "parked");
  const json parked = site.dmm({"parked", "-o", "json"}).document();
  REQUIRE(parked.at("identities").size() == 1);
  CHECK(parked.at("identities").at(0).at("error_code") == "DMM-0303");
  CHECK(parked.at("refused").empty());
  CHECK(site.dmm({"parked"}).out.find("no such song") != std::string::npos);
  const json before = site.dmm({"get", "player", "ugly", "-o", "json"}).document();
  const Result again = site.dmm({"notify", "player", "--parked", "--yes", "-o", "json"});
  REQUIRE(again.code == 0);
  CHECK(again.document() == json{{"type", "player"}, {"notified", 1}, {"failed", 0}});
  require_phase(site, "ugly", "parked");
  const json after = site.dmm({"get", "player", "ugly", "-o", "json"}).document();
  CHECK(after.at("token") > before.at("token"));
}

TEST_CASE("parked: one is shown with its news and the failures before",
          "[cli][verbs][integration]") {
  const Site site("parked_show");
  const Worker worker(site);
  REQUIRE(site.dmm({"put", "player", "a b", "{\"played\":true}", "--wait", "10"}).code == 0);
  CHECK(site.dmm({"parked", "show", "player", "a b"}).code == 4);  // it is well
  REQUIRE(site.dmm({"put", "player", "a b", "{\"park\":true}"}).code == 0);
  require_phase(site, "a b", "parked");
  const json shown = site.dmm({"parked", "show", "player", "a b", "-o", "json"}).document();
  CHECK(shown.at("error_code") == "DMM-0303");
  CHECK(shown.at("news") == json{{"park", true}});
  CHECK(shown.at("stored").at("played") == true);
  REQUIRE(shown.at("failures").size() == 1);
  CHECK(shown.at("failures").at(0).at("error_code") == "DMM-0303");
  CHECK(shown.at("failures").at(0).at("token") == shown.at("token"));
  const std::string text = site.dmm({"parked", "show", "player", "a b"}).out;
  for (const std::string part : {"no such song", "\"park\":true", "\"played\":true", "ATTEMPT"}) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(site.dmm({"parked", "show", "player"}).code == 2);
  CHECK(site.dmm({"parked", "show", "player", "nobody"}).code == 4);
}

TEST_CASE("parked: is told as it happens", "[cli][verbs][integration]") {
  const Site site("parked_watch");
  const Worker worker(site);
  std::stop_source stop;
  std::jthread parking([&] {
    // Until somebody listens nobody hears.
    for (int i = 0; i < 300 && !stop.stop_requested(); ++i) {
      site.dmm({"put", "player", "ugly", "{\"park\":true}"});
      testing::becomes_true([&] { return stop.stop_requested(); }, std::chrono::milliseconds(200));
    }
  });
  const Result heard = site.dmm({"parked", "watch", "player", "--count", "1", "-o", "json"});
  stop.request_stop();
  parking.join();
  REQUIRE(heard.code == 0);
  const json event = json::parse(heard.out);
  CHECK(event.at("what") == "parked");
  CHECK(event.at("type") == "player");
  CHECK(event.at("id") == "ugly");
  CHECK(event.at("value").at("error_code") == "DMM-0303");
  CHECK(event.at("sequence") > 0);
}

TEST_CASE("parked: is chosen by reason and run again or given up", "[cli][verbs][integration]") {
  const Site site("parked_bulk");
  const Worker worker(site);
  for (const std::string id : {"a", "b", "c"}) {
    REQUIRE(site.dmm({"put", "player", id, "{\"played\":true}", "--wait", "10"}).code == 0);
    REQUIRE(site.dmm({"put", "player", id, "{\"park\":true}"}).code == 0);
    require_phase(site, id, "parked");
  }
  const auto count = [&](Arguments more) {
    more.insert(more.begin(), {"parked", "ls", "-o", "json"});
    return site.dmm(more).document().at("identities").size();
  };
  CHECK(count({}) == 3);
  CHECK(count({"player"}) == 3);
  CHECK(count({"player", "b"}) == 1);
  CHECK(count({"other"}) == 0);
  CHECK(count({"--code", "DMM-0303"}) == 3);
  CHECK(count({"--code", "DMM-0304"}) == 0);
  CHECK(count({"--error", "NO such s.ng$"}) == 3);
  CHECK(count({"--error", "timeout"}) == 0);
  CHECK(count({"--older-than", "3600"}) == 0);
  CHECK(count({"--older-than", "1h"}) == 0);
  CHECK(site.dmm({"parked", "ls", "--error", "("}).code == 2);
  CHECK(site.dmm({"parked", "everything"}).code == 2);

  CHECK(site.dmm({"parked", "retry", "player", "a", "--dry-run", "-o", "json"})
            .document()
            .at("identities")
            .size() == 1);
  CHECK(site.dmm({"parked", "retry"}).code == 2);  // nobody can be asked
  const auto token = [&](const std::string& id) {
    return site.dmm({"get", "player", id, "-o", "json"}).document().at("token");
  };
  const json before = token("a");
  CHECK(site.dmm({"parked", "retry", "player", "a", "--yes", "-o", "json"}).document() ==
        json{{"notified", 1}, {"failed", 0}});
  require_phase(site, "a", "parked");
  CHECK(token("a") > before);

  // What is given up leaves the last success; news come as ever.
  CHECK(site.dmm({"parked", "drop", "player", "b", "--yes"}).out == "1 dropped\n");
  require_phase(site, "b", "settled");
  CHECK(site.dmm({"get", "player", "b", "--value"}).out.find("played") != std::string::npos);
  CHECK(site.dmm({"put", "player", "b", "{\"n\":2}", "--wait", "10"}).code == 0);
  CHECK(count({}) == 2);
}

TEST_CASE("parked: a long reason does not end the tool that searches it",
          "[cli][verbs][integration]") {
  const Site site("parked_long");
  site.dmm({"put", "player", "a", "{}"});
  const auto matter = site.bucket().inspect().get({"player", "a"});
  REQUIRE(matter);
  ConnectionOptions options;
  options.servers = {Site::server().url()};
  const auto transport = nats::connect(options, Logger());
  const wire::Names names(site.ns());
  const json status{{"phase", "parked"},
                    {"error", std::string(500'000, 'x')},
                    {"created", transport->open(names.work(1), false)->state().created},
                    {"token", matter->token.value}};
  transport::publish(*transport->open(names.status(1), false),
                     {.subject = names.status_subject("player.a"), .payload = status.dump()}, 10s);
  transport->close();
  const Result found = site.dmm({"parked", "ls", "--error", "(x|y)*x", "-o", "json"});
  CHECK(found.signal == 0);
  CHECK(found.document().at("identities").size() == 1);
}

TEST_CASE("notify: selects by phase and asks before it runs many", "[cli][verbs][integration]") {
  const Site site("notify");
  REQUIRE(site.dmm({"put", "player", "a", "{}"}).code == 0);
  REQUIRE(site.dmm({"put", "player", "b", "{}"}).code == 0);
  CHECK(site.dmm({"notify", "player", "a"}).out == "player/a: notified\n");
  // Nobody can be asked: no terminal.
  const Result unasked = site.dmm({"notify", "player", "--all"});
  CHECK(unasked.code == 2);
  CHECK(unasked.err.find("--yes") != std::string::npos);
  // What it would do.
  CHECK(site.dmm({"notify", "player", "--all", "--dry-run"}).out ==
        "player/a\nplayer/b\nplayer: 2 identities would be notified\n");
  CHECK(site.dmm({"notify", "player", "--all", "--dry-run", "-o", "json"}).document() ==
        json{{"type", "player"}, {"would_notify", {"a", "b"}}});
  CHECK(site.dmm({"notify", "player", "a", "--dry-run"}).code == 2);
  CHECK(site.dmm({"notify", "player", "--all", "--yes"}).out == "player: 2 identities notified\n");
  CHECK(site.dmm({"notify", "player", "--failing"}).out ==
        "player: 0 failing identities notified\n");
  CHECK(site.dmm({"notify", "player"}).code == 2);
  CHECK(site.dmm({"notify", "player", "a", "--all"}).code == 2);
  // A poke keeps the news that wait.
  CHECK(site.dmm({"put", "player", "a", "{\"n\":1}"}).code == 0);
  CHECK(site.dmm({"notify", "player", "a"}).code == 0);
  CHECK(site.dmm({"get", "player", "a", "--value"}).out == "{\"n\":1}\n");
}

TEST_CASE("rm: tears down through a run and purges without", "[cli][verbs][integration]") {
  const Site site("rm");
  CHECK(site.dmm({"rm", "player", "a", "--yes"}).code == 4);
  REQUIRE(site.dmm({"put", "player", "a", "{}"}).code == 0);
  CHECK(site.dmm({"rm", "player", "a"}).code == 2);
  const Result removed = site.dmm({"rm", "player", "a", "--yes"});
  CHECK(removed.out == "player/a: removal notified\n");
  CHECK(site.dmm({"get", "player", "a", "-o", "json"}).document().at("deleted") == true);
  CHECK(site.dmm({"rm", "player", "a", "--purge", "-y"}).out == "player/a: purged\n");
  CHECK(site.dmm({"get", "player", "a"}).code == 4);
  REQUIRE(site.dmm({"put", "player", "b", "{}"}).code == 0);
  const Worker worker(site);
  CHECK(site.dmm({"rm", "player", "b", "--yes", "--wait", "20"}).code == 0);
  CHECK(site.dmm({"get", "player", "b"}).code == 4);
}

TEST_CASE("wait: tells what it waited for when the time is up", "[cli][verbs][integration]") {
  const Site site("wait");
  const Result result = site.dmm({"put", "player", "a", "{}", "--wait", "0.3"});
  CHECK(result.code == 6);
  CHECK(result.err.find("dmm: DMM-0103: player/a is still waiting") == 0);
  CHECK(site.dmm({"put", "player", "a", "{}", "--wait", "0.1", "-o", "json"}).document() ==
        json{{"type", "player"}, {"id", "a"}, {"done", "notified"}, {"settled", false}});
}

TEST_CASE("wait: Ctrl-C ends it with 130 and the news stay", "[cli][verbs][integration]") {
  const Site site("waitint");
  testing::ChildProcess put(tool(), site.options({"put", "player", "a", "{}", "--wait", "60"}));
  testing::wait_for("the news", [&] { return site.dmm({"get", "player", "a"}).code == 0; });
  REQUIRE(put.kill(SIGINT));
  const auto status = put.wait(10s);
  REQUIRE(status);
  CHECK(*status == testing::ExitStatus{130, 0});
  CHECK(site.dmm({"get", "player", "a", "-o", "json"}).document().at("phase") == "waiting");
}

TEST_CASE("watch: shows changes and ends after so many", "[cli][verbs][integration]") {
  const Site site("watch");
  testing::ChildProcess watch(tool(), site.options({"watch", "--count", "3", "-o", "json"}));
  // It shows what comes after it has begun: bring news until it has seen enough.
  int n = 0;
  testing::wait_for(
      "watch to end",
      [&] {
        site.dmm({"put", "player", "a", json{{"n", ++n}}.dump()});
        return !watch.running();
      },
      30s);
  CHECK(watch.wait(1s)->code == 0);
  std::istringstream lines(watch.output());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const json change = json::parse(line);
    CHECK(change.at("what") == "token");
    CHECK(change.at("type") == "player");
    CHECK(change.at("id") == "a");
    CHECK(change.at("value").at("n") > 0);
  }
  CHECK(count == 3);
}

TEST_CASE("watch: Ctrl-C ends it with 130", "[cli][verbs][integration]") {
  const Site site("ctrlc");
  testing::ChildProcess watch(tool(), site.options({"watch"}));
  testing::wait_for(
      "watch to show something",
      [&] {
        site.dmm({"report", "player", "a", "{}"});
        return !watch.output().empty();
      },
      30s);
  CHECK(watch.output().find("report   player/a {}") != std::string::npos);
  REQUIRE(watch.kill(SIGINT));
  const auto status = watch.wait(10s);
  REQUIRE(status);
  CHECK(*status == testing::ExitStatus{130, 0});
}

TEST_CASE("leases: name the worker that holds the type", "[cli][verbs][integration]") {
  const Site site("leases");
  CHECK(site.dmm({"leases"}).out.empty());
  const Worker worker(site);
  json leases;
  testing::wait_for("a lease", [&] {
    leases = site.dmm({"leases", "-o", "json"}).document();
    return !leases.empty() && leases.at(0).value("lanes", 0) == 64;
  });
  CHECK(leases.at(0).at("name").get<std::string>().find("player") != std::string::npos);
  CHECK(leases.at(0).at("state") == "held");
  CHECK(leases.at(0).at("epoch") == 1);
  CHECK(site.dmm({"leases"}).out.find("held") != std::string::npos);
}

TEST_CASE("doctor: says what is good and lists the limits", "[cli][verbs][integration]") {
  const Site site("doctor");
  const Result result = site.dmm({"doctor", "--limits", "-o", "json"});
  INFO(result.out);
  CHECK(result.code == 0);
  const json document = result.document();
  CHECK(document.at("findings").size() > 1);
  CHECK(document.at("streams").size() == 6);
  CHECK(document.at("server").at("jetstream") == true);
  CHECK(document.at("limits").at("lanes").at("value") == 64);
  const std::string text = site.dmm({"doctor"}).out;
  CHECK(text.find("ok ") != std::string::npos);
  CHECK(text.find("DMM_doctor_WORK") != std::string::npos);
}

TEST_CASE("doctor: a missing namespace and a missing server are findings",
          "[cli][verbs][integration]") {
  const Site site("nowhere", false);
  const Result missing = site.dmm({"doctor"});
  CHECK(missing.code == 4);
  CHECK(missing.out.find("FAIL") == 0);
  CHECK(missing.out.find("dmm init") != std::string::npos);
  const Result away = without_server({"doctor", "-o", "json"});
  CHECK(away.code == 3);
  CHECK(away.document().at("findings").at(0).at("severity") == "failure");
}

TEST_CASE("help: explains every error code", "[cli][verbs][unit]") {
  for (const Code* code : error_catalogue()) {
    const Result page = without_server({"help", std::string(code->id)});
    INFO(code->id);
    CHECK(page.code == 0);
    CHECK(page.out.find(std::string(code->title)) != std::string::npos);
    CHECK(page.out.find(std::string(code->remedy)) != std::string::npos);
  }
  CHECK(without_server({"help", "dmm-101"}).out.find("DMM-0101") == 0);
  CHECK(without_server({"help", "codes", "-o", "json"}).document().size() ==
        error_catalogue().size());
  CHECK(without_server({"help", "DMM-9999"}).code == 4);
  CHECK(without_server({"help", "ls"}).out.find("--parked") != std::string::npos);
  CHECK(without_server({"help"}).out.find("doctor") != std::string::npos);
  CHECK(without_server({"version", "-o", "json"}).document().contains("version"));
}

}  // namespace
}  // namespace dmm::cli_test
