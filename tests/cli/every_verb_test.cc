// Goal: every verb behaves where things are not as they should be: no server, a server that does
// not let it in, no namespace, ten thousand rows, a terminal of 20 columns, nobody who reads its
// output. Method: one table of calls. The verbs come from the program itself, so one that is new
// and not in the table fails the test; each call meets each condition in a process of its own.

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <sstream>
#include <thread>

#include "dmm/cli/program.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "runner.h"
#include "screen.h"

namespace dmm::cli_test {
namespace {

using namespace std::chrono_literals;

// What a call needs to do its work.
enum class Needs { nothing, server, ns, postgres };

// How it ends by itself.
enum class Ends { done, follows, stays };  // follows: after --count events; stays: by Ctrl-C only

struct Call {
  std::string verb;  ///< as in Program::calls()
  Arguments more;
  Needs needs = Needs::ns;
  std::set<int> live = {0};  ///< exit codes in a namespace in which something stands
  Ends ends = Ends::done;
};

const std::string kPipeline = std::string(DMM_PIPELINES_DIR) + "/plays-per-song.json";
const std::string kChanges = std::string(DMM_PIPELINES_DIR) + "/plays-per-song.jsonl";
const std::string kView = std::string(DMM_VIEWS_DIR) + "/loud-players.yaml";

#ifdef DMM_CLI_POSTGRES
// Where no PostgreSQL is.
const Arguments kNoPostgres = {"--postgres", "postgresql://nobody@127.0.0.1:1/none"};

Arguments with_postgres(Arguments more) {
  more.insert(more.end(), kNoPostgres.begin(), kNoPostgres.end());
  return more;
}
#endif

std::string bundle_path() {
  static const testing::TemporaryDirectory directory("dmm-cli-test");
  return (directory / "bundle.tar.gz").string();
}

std::vector<Call> table() {
  std::vector<Call> calls = {
      {"ls", {"--values"}},
      {"get", {"lamp", "1"}},
      {"reports", {}},
      {"parked", {}},
      {"parked ls", {}},
      {"parked show", {"lamp", "1"}},
      {"parked watch", {"--count", "1"}, Needs::ns, {0}, Ends::follows},
      {"parked retry", {"--dry-run"}},
      {"parked drop", {"--dry-run"}},
      {"put", {"player", "new", "{\"n\":1}"}},
      {"rm", {"player", "new", "--yes"}},
      {"notify", {"player", "--all", "--yes"}},
      {"pause", {}},
      {"resume", {"player"}, Needs::ns, {0, 4}},
      {"policy ls", {}},
      {"policy set", {"player", "rate=20"}},
      {"policy show", {"player"}},
      {"policy unset", {"player"}},
      {"report", {"player", "new", "{}"}},
      {"command", {"player", "kitchen", "{}", "--timeout", "0.2"}, Needs::ns, {4, 6}},
      {"shadow ls", {}},
      {"shadow get", {"player", "kitchen"}, Needs::ns, {0, 4}},
      {"shadow set", {"player", "kitchen", "{\"song\":\"Naima\"}"}},
      {"shadow rm", {"player", "kitchen"}},
      {"watch", {"--count", "1"}, Needs::ns, {0}, Ends::follows},
      {"history", {"lamp", "1"}},
      {"diff", {"lamp", "1"}},
      {"top", {"--count", "1", "--every", "0.1"}},
      {"edit", {"player", "1"}},
      {"bundle", {bundle_path(), "--yes"}},
      {"workers", {"--timeout", "50"}},
      {"lanes", {"--timeout", "50"}},
      {"log-level", {"--timeout", "50"}},
      {"init", {}, Needs::server},
      {"leases", {}},
      {"doctor", {}},
      {"pipeline check", {kPipeline}, Needs::nothing},
      {"pipeline explain", {kPipeline}, Needs::nothing},
      {"pipeline run", {kPipeline, kChanges}, Needs::nothing},
      {"view ls", {}},
      {"view show", {"none"}, Needs::ns, {4}},
      {"view approve", {"none", "--yes"}, Needs::ns, {4}},
      {"view run", {kView}, Needs::ns, {0, 130}, Ends::stays},
      {"view plan", {kView}},
      {"view apply", {kView, "--yes"}},
      {"view rollback", {"none", "--yes"}, Needs::ns, {4}},
      {"view verify", {kView, "--settle", "0"}, Needs::ns, {0, 1}},
      {"view lag", {"none"}, Needs::ns, {4}},
      {"explain", {"lamp", "1"}},
      {"dev", {"--port", "0"}, Needs::nothing, {0, 130}, Ends::stays},
      {"help", {"DMM-0101"}, Needs::nothing},
      {"completion", {"bash"}, Needs::nothing},
      {"version", {}, Needs::nothing},
  };
#ifdef DMM_CLI_POSTGRES
  const std::vector<std::pair<std::string, Arguments>> stored = {
      {"postgres migrate", {}},
      {"postgres watch", {"songs"}},
      {"postgres unwatch", {"songs", "--yes"}},
      {"postgres status", {}},
      {"resource ls", {}},
      {"resource get", {"user", "u1"}},
      {"resource kinds", {}},
      {"resource informers", {}},
      {"resource events", {}},
      {"resource retry", {"user", "u1", "--yes"}},
      {"resource invalidate", {"user", "u1", "--yes"}},
      {"resource forget", {"user", "u1", "--yes"}},
      {"resource inform", {"user"}},
      {"resource pause", {"user"}},
      {"resource resume", {"user"}},
      {"resource migrate", {"status"}},
  };
  for (const auto& [verb, more] : stored) {
    calls.push_back({verb, with_postgres(more), Needs::postgres, {3}});
  }
#endif
  return calls;
}

Arguments typed(const Call& call) {
  Arguments arguments;
  std::istringstream words(call.verb);
  for (std::string word; words >> word;) arguments.push_back(word);
  arguments.insert(arguments.end(), call.more.begin(), call.more.end());
  return arguments;
}

std::string shown(const Call& call, const Result& result) {
  return json(typed(call)).dump() + "\nexit code " + std::to_string(result.code) + "\n" +
         result.out.substr(0, 500) + "\n" + result.err.substr(0, 1'000);
}

void check_error(const Result& result) {
  CHECK(result.signal == 0);
  CHECK(result.err.starts_with("dmm: DMM-0"));
  CHECK(result.err.find("\n     ") != std::string::npos);  // the remedy
}

/// A namespace with what people look at: parked and waiting identities, reports, a shadow.
class Scene {
 public:
  Scene(const std::string& ns, std::size_t rows) : site(ns), bucket_(site.bucket()) {
    std::vector<std::pair<Identity, json>> news;
    std::vector<std::pair<std::string, json>> reports;
    for (std::size_t i = 1; i <= rows; ++i) {
      news.emplace_back(Identity{"player", std::to_string(i)}, json{{"song", "Naima"}, {"n", i}});
      reports.emplace_back(std::to_string(i), json{{"song", "Giant Steps"}, {"volume", 9}});
    }
    REQUIRE(bucket_.notify_all(news).empty());
    REQUIRE(bucket_.report_all("player", reports).empty());
    bucket_.set_shadow("player", "kitchen", {{"song", "Naima"}});
    park(rows);
  }

  /// Brings events of every sort until it ends.
  std::jthread events() {
    return std::jthread([this](const std::stop_token& stop) {
      Bucket bucket = site.bucket();
      for (int n = 0; !stop.stop_requested(); ++n) {
        bucket.report("player", "1", {{"n", n}});
        // Where lamps are run, this one is parked again.
        bucket.notify({"lamp", "2"}, {{"n", n}});
        testing::becomes_true([&] { return stop.stop_requested(); }, 50ms);
      }
    });
  }

  Site site;

 private:
  void park(std::size_t rows) {
    Bucket bucket = site.bucket();
    AnyMaterializer fails;
    fails.materialize = [](Context&, json&) -> Outcome {
      throw std::runtime_error("the bulb is broken");
    };
    WorkOptions options;
    options.attempts_max = 1;
    options.concurrency = 64;
    const WorkStream& lamps = bucket.register_type("lamp", fails, options);
    std::vector<std::pair<Identity, json>> news;
    for (std::size_t i = 1; i <= rows; ++i) {
      news.emplace_back(Identity{"lamp", std::to_string(i)}, json{{"n", i}});
    }
    REQUIRE(bucket.notify_all(news).empty());
    std::jthread works([&](const std::stop_token& stop) { bucket.work(stop); });
    testing::wait_for(
        "the lamps to be parked", [&] { return lamps.stats().parked >= rows; }, 120s);
  }

  Bucket bucket_;
};

/// Lamps that go on to be parked, for who watches that.
class Lamps {
 public:
  explicit Lamps(const Site& site) : bucket_(site.bucket()) {
    AnyMaterializer fails;
    fails.materialize = [](Context&, json&) -> Outcome {
      throw std::runtime_error("the bulb is broken");
    };
    WorkOptions options;
    options.attempts_max = 1;
    bucket_.register_type("lamp", fails, options);
    thread_ = std::jthread([this](const std::stop_token& stop) { bucket_.work(stop); });
  }

 private:
  Bucket bucket_;
  std::jthread thread_;
};

const std::map<std::string, std::string> kEditor = {{"EDITOR", "true"}, {"VISUAL", ""}};

/// Runs a call until it ends; one that stays is ended when it has said something.
Result run(const Site& site, const Call& call) {
  if (call.ends != Ends::stays) return site.dmm(typed(call), {}, kEditor);
  testing::ChildProcess process(tool(), site.options(typed(call)));
  testing::wait_for("output", [&] { return !process.output().empty() || !process.running(); });
  process.kill(SIGINT);
  const auto status = process.wait(30s);
  REQUIRE(status);
  return {status->signal != 0 ? -1 : status->code, status->signal, process.output(),
          process.error_output()};
}

TEST_CASE("every verb: the table has each of them and no other", "[cli][every][unit]") {
  std::set<std::string> known;
  for (const Call& call : table()) {
    INFO(call.verb);
    CHECK(known.insert(call.verb).second);
  }
  std::set<std::string> there;
  cli::Program program;
  for (const std::string& call : program.calls()) there.insert(call);
  for (const std::string& verb : there) {
    INFO("a verb that is not tried: " << verb);
    CHECK(known.contains(verb));
  }
  for (const std::string& verb : known) {
    INFO("tried, but there is none: " << verb);
    CHECK(there.contains(verb));
  }
}

TEST_CASE("every verb: it has help with examples", "[cli][every][unit]") {
  for (const Call& call : table()) {
    Call asks = call;
    asks.more = {"--help"};
    const Result result = without_server(typed(asks));
    INFO(shown(asks, result));
    CHECK(result.code == 0);
    CHECK(result.err.empty());
    CHECK(result.out.find("Examples:\n  ") != std::string::npos);
    CHECK(result.out.find("dmm " + call.verb) != std::string::npos);
  }
}

TEST_CASE("every verb: without a server it says so", "[cli][every][unit]") {
  for (const Call& call : table()) {
    const Result result = without_server(typed(call), "{}\n");
    INFO(shown(call, result));
    if (call.verb == "dev") {
      CHECK(result.code == 4);  // there is no nats-server to start
    } else if (call.needs == Needs::nothing) {
      CHECK(result.code == 0);
    } else if (call.verb == "doctor") {
      CHECK(result.code == 3);
      CHECK(result.out.starts_with("FAIL"));
    } else {
      CHECK(result.code == 3);
      CHECK(result.out.empty());
      check_error(result);
    }
  }
}

TEST_CASE("every verb: a server that does not let it in is told apart from none",
          "[cli][every][integration]") {
  testing::NatsServerOptions options;
  testing::NatsUser ann;
  ann.user = "ann";
  ann.password = "s3cret";
  options.users = {ann};
  const testing::NatsServer server(options);
  const Site site("refused", false);
  for (const Call& call : table()) {
    if (call.needs != Needs::server && call.needs != Needs::ns) continue;
    const Result result =
        site.dmm(typed(call), "{}\n",
                 {{"DMM_SERVER", server.url()}, {"DMM_USER", "ann"}, {"DMM_PASSWORD", "wr0ng"}});
    INFO(shown(call, result));
    CHECK(result.code == 3);
    const std::string all = result.out + result.err;
    CHECK(all.find("DMM-0102") != std::string::npos);
    CHECK(all.find("wr0ng") == std::string::npos);
    if (call.verb != "doctor") check_error(result);
  }
}

TEST_CASE("every verb: without its namespace it names init and creates nothing",
          "[cli][every][integration]") {
  const Site site("lacking", false);
  for (const Call& call : table()) {
    if (call.needs != Needs::ns) continue;
    const Result result = site.dmm(typed(call), "{}\n", kEditor);
    INFO(shown(call, result));
    CHECK(result.code == 4);
    const std::string all = result.out + result.err;
    CHECK(all.find("dmm init") != std::string::npos);
    if (call.verb != "doctor") {
      CHECK(result.err.starts_with("dmm: DMM-0107: "));
      CHECK(result.out.empty());
    }
  }
}

TEST_CASE("every verb: a terminal of 20 columns and one that can nothing are enough",
          "[cli][every][integration]") {
  Scene scene("twenty", 3);
  const Lamps lamps(scene.site);
  const std::jthread events = scene.events();
  for (const Call& call : table()) {
    if (call.needs == Needs::postgres) continue;  // an error is as wide as it is
    for (const char* term : {"xterm", "dumb"}) {
      const Shown seen =
          on_terminal(scene.site, typed(call), 20,
                      {{"NO_COLOR", "1"}, {"TERM", term}, {"EDITOR", "true"}, {"VISUAL", ""}}, {},
                      call.ends == Ends::stays);
      INFO(json(typed(call)).dump() << " on " << term << ", exit code " << seen.code << "\n"
                                    << seen.text.substr(0, 3'000));
      CHECK(call.live.contains(seen.code));
      // Looking again and again begins at the top of the screen, where there is such a thing.
      if (call.verb == "top" && term == std::string("xterm")) continue;
      CHECK(seen.text.find('\x1b') == std::string::npos);
      // Sentences, errors and what is for programs are wrapped by the terminal.
      static const std::set<std::string> kTables = {
          "ls",      "reports", "parked", "parked ls", "leases", "workers", "lanes",    "log-level",
          "view ls", "history", "diff",   "shadow ls", "doctor", "top",     "policy ls"};
      if (kTables.contains(call.verb)) CHECK(widest_line(seen.text) <= 20);
    }
  }
}

TEST_CASE("every verb: nobody who reads what it says is no trouble", "[cli][every][integration]") {
  Scene scene("unread", 3);
  const Lamps lamps(scene.site);
  const std::jthread events = scene.events();
  for (const Call& call : table()) {
    // What stays goes on with its work, whoever reads what it says.
    if (call.needs == Needs::postgres || call.ends == Ends::stays) continue;
    std::string words;
    for (const std::string& word : typed(call)) words += " '" + word + "'";
    // Closed from the start: it does its work, or says that it cannot tell what it did.
    const Result closed = shell(scene.site, "EDITOR=true \"$DMM\"" + words + " >&-");
    INFO(">&- " << shown(call, closed));
    CHECK(closed.signal == 0);
    CHECK((call.live.contains(closed.code) || closed.code == 1));
    // A reader that goes away has seen enough.
    const Result gone = shell(scene.site, "EDITOR=true; export EDITOR; { \"$DMM\"" + words +
                                              "; echo \"code $?\" >&2; } | true");
    INFO("| true " << shown(call, gone));
    const std::size_t at = gone.err.rfind("code ");
    REQUIRE(at != std::string::npos);
    CHECK(call.live.contains(std::atoi(gone.err.c_str() + at + 5)));
  }
}

TEST_CASE("every verb: ten thousand rows are no trouble", "[cli][every][integration]") {
  constexpr std::size_t kRows = 10'000;
  Scene scene("many", kRows);
  for (const Call& call : table()) {
    if (call.needs != Needs::ns || call.ends != Ends::done) continue;
    Call documents = call;
    documents.more.insert(documents.more.end(), {"-o", "json"});
    for (const Call& form : {call, documents}) {
      const auto begun = std::chrono::steady_clock::now();
      const Result result = run(scene.site, form);
      const auto took = std::chrono::steady_clock::now() - begun;
      INFO(shown(form, result));
      CHECK(form.live.contains(result.code));
      CHECK(took < 30s);
      const bool rows = call.verb == "reports" || call.verb.starts_with("parked ls") ||
                        call.verb == "parked" || call.verb == "ls";
      if (!rows) continue;
      if (form.more == call.more) {
        CHECK(std::ranges::count(result.out, '\n') >= static_cast<std::ptrdiff_t>(kRows));
      } else {
        const json document = result.document();
        const json& list = document.is_array() ? document : document.at("identities");
        CHECK(list.size() >= kRows);
      }
    }
  }
}

}  // namespace
}  // namespace dmm::cli_test
