// Goal: whoever asks learns who works in a namespace, and only what is true.
// Method: buckets over a transport in memory, and a process against a private nats-server; answers
// that are no answers.

#include <catch2/catch.hpp>

#include <set>
#include <string>
#include <thread>

#include "dmm/bucket.h"
#include "dmm/internal/roll_call.h"
#include "dmm/testing/memory_server.h"
#include "dmm/testing/memory_transport.h"
#include "dmm/testing/wait_for.h"
#include "tests/service/subject.h"

namespace {

using dmm::WorkerInfo;
using dmm::internal::parse_worker;
using namespace std::chrono_literals;

struct Player {
  std::string id;
  std::string identity() const { return id; }
  void materialize(dmm::Context&) {}
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Player, id)
};

class Worker {
 public:
  Worker(const dmm::testing::MemoryServer& server, const std::string& program)
      : bucket_(dmm::Bucket::open("music", options(server, program))) {
    bucket_.register_type<Player>("player");
    thread_ = std::jthread([this](const std::stop_token& stop) { bucket_.work(stop); });
  }
  dmm::Bucket& bucket() { return bucket_; }

  static dmm::BucketOptions options(const dmm::testing::MemoryServer& server,
                                    const std::string& program) {
    dmm::BucketOptions options;
    options.transport = server.connect();
    options.logger = dmm::Logger(dmm::Level::warn, [](auto&&...) {});
    options.program = program;
    options.describe = [] { return nlohmann::json{{"more", 1}}; };
    return options;
  }

 private:
  dmm::Bucket bucket_;
  std::jthread thread_;
};

}  // namespace

TEST_CASE("workers: an answer is read as far as it is sound", "[service][workers][unit]") {
  CHECK_FALSE(parse_worker(""));
  CHECK_FALSE(parse_worker("[]"));
  CHECK_FALSE(parse_worker("{}"));
  CHECK_FALSE(parse_worker(R"({"id": 1})"));
  const auto least =
      parse_worker(R"({"id": "x", "name": 7, "pid": "y", "types": {}, "views": [1]})");
  REQUIRE(least);
  CHECK(least->id == "x");
  CHECK(least->name.empty());
  CHECK(least->pid == 0);
  const auto odd = parse_worker(
      R"({"id": "x", "types": [1, {"type": "player", "lanes": [0, 63, 64, -1, "a", 1e300],)"
      R"( "running": "many"}], "not_ready": [1, "so"]})");
  REQUIRE(odd);
  REQUIRE(odd->types.size() == 1);
  CHECK(odd->types[0].lanes == std::vector<std::uint32_t>{0, 63});
  CHECK(odd->types[0].running == 0);
  CHECK(odd->not_ready == std::vector<std::string>{"so"});
}

TEST_CASE("workers: who works says what it has and who only looks does not answer",
          "[service][workers][unit]") {
  const dmm::testing::MemoryServer server;
  dmm::Bucket looks = dmm::Bucket::open("music", Worker::options(server, "looks"));
  CHECK(looks.workers(50ms).empty());
  CHECK(looks.not_ready() == std::vector<std::string>{"it does not work yet"});
  Worker one(server, "one");
  dmm::testing::wait_for("the worker to be ready",
                         [&] { return one.bucket().not_ready().empty(); });
  std::vector<WorkerInfo> found;
  // Who stands still may miss the window, and is not ready for a moment.
  dmm::testing::wait_for("the answer", [&] {
    found = looks.workers(100ms);
    return found.size() == 1 && found[0].not_ready.empty() && found[0].answered_in < 100ms;
  });
  CHECK(found[0].name == "one");
  REQUIRE(found[0].types.size() == 1);
  CHECK(found[0].types[0].type == "player");
  CHECK(found[0].types[0].lanes.size() == 64);
  CHECK(found[0].types[0].lanes_wanted == 64);
  CHECK(found[0].answer.at("more") == 1);
}

TEST_CASE("workers: two that share a type answer with lanes that do not overlap",
          "[service][workers][unit]") {
  const dmm::testing::MemoryServer server;
  dmm::Bucket looks = dmm::Bucket::open("music", Worker::options(server, "looks"));
  Worker a(server, "a");
  Worker b(server, "b");
  std::vector<WorkerInfo> found;
  dmm::testing::wait_for("the lanes to be shared", [&] {
    found = looks.workers(50ms);
    return found.size() == 2 && found[0].types.at(0).lanes.size() == 32 &&
           found[1].types.at(0).lanes.size() == 32;
  });
  CHECK(found[0].name == "a");
  CHECK(found[1].name == "b");
  std::set<std::uint32_t> lanes;
  for (const WorkerInfo& worker : found) {
    lanes.insert(worker.types[0].lanes.begin(), worker.types[0].lanes.end());
  }
  CHECK(lanes.size() == 64);
}

TEST_CASE("workers: what they log is changed for a while and then as it was configured",
          "[service][workers][unit]") {
  std::mutex mutex;
  std::vector<std::string> lines;
  dmm::Logger log(dmm::Level::warn,
                  [&](dmm::Level, std::string_view message, const nlohmann::json&) {
                    const std::lock_guard lock(mutex);
                    lines.emplace_back(message);
                  });
  const auto said = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    return std::ranges::count(lines, line);
  };
  dmm::internal::LogLevelKeeper keeper(log);
  const auto level_said = [&] {
    nlohmann::json answer = nlohmann::json::object();
    keeper.describe(answer);
    return answer;
  };
  CHECK(level_said() == nlohmann::json{{"log_level", "warn"}});
  std::stop_source stop;
  std::jthread keeps([&] { keeper.keep(stop.get_token()); });

  keeper.take({dmm::Level::debug, 1h, ""});
  CHECK(log.level() == dmm::Level::debug);
  CHECK(level_said().at("log_level") == "debug");
  CHECK(level_said().contains("log_level_until"));
  CHECK(said("the log level was set for a while") == 1);
  // A second order does not make the first one the configured level.
  keeper.take({dmm::Level::info, 20ms, ""});
  dmm::testing::wait_for("the end of the order", [&] { return log.level() == dmm::Level::warn; });
  CHECK(said("the log level is as configured again") == 1);
  CHECK(level_said() == nlohmann::json{{"log_level", "warn"}});

  // An order to log less is told, too, and taken back at once.
  log.set_level(dmm::Level::info);
  keeper.take({dmm::Level::error, 1h, ""});
  CHECK(said("the log level was set for a while") == 3);
  keeper.take({dmm::Level::debug, 0ms, ""});
  CHECK(log.level() == dmm::Level::info);

  // Who sets another level ends the order.
  keeper.take({dmm::Level::debug, 1h, ""});
  log.set_level(dmm::Level::error);
  keeper.take({dmm::Level::debug, 0ms, ""});
  CHECK(log.level() == dmm::Level::error);
  stop.request_stop();
}

TEST_CASE("workers: who observes or keeps a view is ready once it does or somebody else does",
          "[service][workers][unit]") {
  const dmm::testing::MemoryServer server;
  const auto watcher = [&](const std::string& program) {
    dmm::Bucket bucket = dmm::Bucket::open("music", Worker::options(server, program));
    bucket.observe<Player>("player", [](dmm::ObserveContext&, const Player&) {});
    dmm::View view;
    view.name = "zones";
    view.type = "zone";
    view.inputs = {dmm::ViewInput::reports("player")};
    view.pipeline = nlohmann::json::parse(R"([{"@project": {"id": "$.device"}}])");
    bucket.view(view);
    return bucket;
  };
  dmm::Bucket first = watcher("first");
  dmm::Bucket second = watcher("second");
  // Never ready without somebody who does the work.
  const auto ready = [](const dmm::Bucket& bucket, const dmm::Bucket* other) {
    const bool says = bucket.not_ready().empty();
    const auto works = [](const dmm::Bucket& one) {
      return one.observers().at(0)->stats().holds_lease &&
             one.view_streams().at(0)->stats().holds_lease;
    };
    if (says) CHECK((works(bucket) || (other != nullptr && works(*other))));
    return says;
  };
  std::jthread works([&](const std::stop_token& stop) { first.work(stop); });
  dmm::testing::wait_for("the first to be ready", [&] { return ready(first, nullptr); });
  std::jthread stands_by([&](const std::stop_token& stop) { second.work(stop); });
  dmm::testing::wait_for("the second to be ready", [&] { return ready(second, &first); });
  CHECK(second.observers().at(0)->stats().stands_by);
  CHECK(second.view_streams().at(0)->stats().stands_by);
  CHECK_FALSE(first.view_streams().at(0)->stats().stands_by);
}

TEST_CASE("workers: an order is what it says or nothing", "[service][workers][unit]") {
  using dmm::internal::parse_order;
  for (const char* text :
       {"", "[]", "{}", R"({"log_level": "loud"})", R"({"log_level": "off"})",
        R"({"log_level": 1})", R"({"log_level": "info", "for_ms": -1})",
        R"({"log_level": "info", "for_ms": "1h"})", R"({"log_level": "info", "worker": 7})"}) {
    INFO(text);
    CHECK_FALSE(parse_order(text));
  }
  const auto least = parse_order(R"({"log_level": "debug", "more": 1})");
  REQUIRE(least);
  CHECK(least->duration == dmm::limits::log_level_for);
  CHECK(parse_order(R"({"log_level": "debug", "for_ms": 18446744073709551615})")->duration ==
        dmm::limits::log_level_for_max);
  const auto same = parse_order(dmm::internal::order_text({dmm::Level::warn, 5s, "rack:7"}));
  REQUIRE(same);
  CHECK(same->level == dmm::Level::warn);
  CHECK(same->duration == 5s);
  CHECK(same->worker == "rack:7");

  const nlohmann::json self = {{"id", "x1"}, {"name", "players"}, {"host", "rack"}, {"pid", 7}};
  for (const char* worker : {"", "x1", "players", "rack:7"}) {
    CHECK(dmm::internal::is_meant(worker, self));
  }
  for (const char* worker : {"x", "rack", "7", "rack:8"}) {
    CHECK_FALSE(dmm::internal::is_meant(worker, self));
  }
}

TEST_CASE("workers: those that are meant do what they are told", "[service][workers][unit]") {
  const dmm::testing::MemoryServer server;
  dmm::Bucket looks = dmm::Bucket::open("music", Worker::options(server, "looks"));
  CHECK(looks.set_log_level({dmm::Level::debug, 1min, ""}, 50ms).empty());
  CHECK_THROWS_AS(looks.set_log_level({dmm::Level::off, 1min, ""}, 50ms), dmm::Error);
  CHECK_THROWS_AS(looks.set_log_level({dmm::Level::debug, 25h, ""}, 50ms), dmm::Error);
  Worker one(server, "one");
  Worker two(server, "two");
  for (Worker* worker : {&one, &two}) {
    dmm::testing::wait_for("the workers to be ready",
                           [&] { return worker->bucket().not_ready().empty(); });
  }
  std::vector<WorkerInfo> told;
  dmm::testing::wait_for("the answer of who is meant", [&] {
    told = looks.set_log_level({dmm::Level::debug, 1min, "two"}, 100ms);
    return !told.empty();
  });
  REQUIRE(told.size() == 1);
  CHECK(told[0].name == "two");
  CHECK(told[0].log_level == dmm::Level::debug);
  CHECK(told[0].log_level_until.has_value());
  std::vector<WorkerInfo> found;
  const auto both_answer = [&] {
    found = looks.workers(100ms);
    // An answer that was long on its way says little of the clock.
    return found.size() == 2 && found[0].answered_in < 100ms;
  };
  dmm::testing::wait_for("the answers", both_answer);
  CHECK_FALSE(found[0].log_level_until.has_value());
  CHECK(found[1].log_level == dmm::Level::debug);
  REQUIRE(found[0].clock_ahead);
  CHECK(std::chrono::abs(*found[0].clock_ahead) < 100ms);
  dmm::testing::wait_for("both to be told", [&] {
    return looks.set_log_level({dmm::Level::debug, 0ms, ""}, 100ms).size() == 2;
  });
  dmm::testing::wait_for("the answers", both_answer);
  CHECK_FALSE(found[1].log_level_until.has_value());
}

TEST_CASE("workers: a service answers over NATS until it ends", "[service][workers][integration]") {
  dmm::BucketOptions options;
  options.connection.servers = {dmm::service_test::server().url()};
  options.logger = dmm::Logger();
  dmm::Bucket bucket = dmm::Bucket::open("roll", std::move(options));
  const auto begun = std::chrono::steady_clock::now();
  CHECK(bucket.workers(20s).empty());  // nobody listens, which the server says at once
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
  dmm::service_test::Subject subject(dmm::service_test::server().url(), "roll", {"--zones"});
  subject.wait_until_ready();
  std::vector<WorkerInfo> found;
  dmm::testing::wait_for("the answer", [&] {
    found = bucket.workers(300ms);
    return !found.empty();
  });
  REQUIRE(found.size() == 1);
  CHECK(found[0].name == "players");
  CHECK(found[0].pid == subject.process().pid());
  CHECK(found[0].answer.at("http") == "127.0.0.1:" + std::to_string(subject.port()));
  REQUIRE(found[0].views.size() == 1);
  CHECK(found[0].views[0].name == "zones");
  CHECK(found[0].views[0].active);
  REQUIRE(found[0].observers.size() == 1);
  CHECK(subject.process().stop(SIGTERM).success());
  CHECK(bucket.workers(300ms).empty());
}

#ifdef DMM_CLI
TEST_CASE("workers: the command line tool shows who works and who has which lanes",
          "[service][workers][integration]") {
  using dmm::service_test::json;
  const auto dmm = [](std::vector<std::string> arguments) {
    dmm::testing::ChildOptions options;
    options.arguments = {"-n", "shown"};
    options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
    options.environment = {{"DMM_SERVER", dmm::service_test::server().url()}};
    return dmm::testing::run(DMM_CLI, std::move(options));
  };
  // Asks until the worker, which may stand still for a while, answers with this text.
  const auto answer = [&](const std::vector<std::string>& arguments,
                          const std::string& text = "players") {
    dmm::testing::Finished result;
    dmm::testing::wait_for(
        "an answer with " + text,
        [&] {
          result = dmm(arguments);
          return result.output.find(text) != std::string::npos;
        },
        20s);
    return result.output;
  };
  CHECK(dmm({"workers"}).status.code == 4);  // there is no such namespace yet
  dmm::service_test::Subject subject(dmm::service_test::server().url(), "shown", {"--zones"});
  subject.wait_until_ready();

  json workers;
  dmm::testing::wait_for("an answer in time", [&] {
    const auto found = dmm({"workers", "--timeout", "300", "-o", "json"});
    INFO(found.error_output);
    REQUIRE(found.status.success());
    workers = json::parse(found.output);
    return !workers.empty() && workers[0].at("answered_in_ms").get<double>() < 300;
  });
  REQUIRE(workers.size() == 1);
  CHECK(workers[0].at("name") == "players");
  CHECK(workers[0].at("pid") == subject.process().pid());
  CHECK(workers[0].at("started_at").get<std::string>().ends_with("Z"));
  const std::string table = answer({"workers", "--timeout", "300"}, "player 64/64");
  CHECK(table.find("zones") != std::string::npos);
  CHECK(table.find("ready") != std::string::npos);

  const json lanes = json::parse(answer({"lanes", "player", "--timeout", "300", "-o", "json"}));
  REQUIRE(lanes.size() == 1);
  CHECK(lanes[0].at("worker") == "players");
  CHECK(lanes[0].at("lanes").size() == 64);
  CHECK_NOTHROW(answer({"lanes", "--timeout", "300"}, "0-63"));
  CHECK(json::parse(dmm({"lanes", "lamp", "--timeout", "100", "-o", "json"}).output).empty());
  CHECK(dmm({"lanes", "--timeout", "0"}).status.code == 2);

  // What it logs, for a while.
  const auto level = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"log-level", "--timeout", "300", "-o", "json"});
    return json::parse(answer(arguments)).at(0);
  };
  CHECK(level({}).at("level") == "info");
  CHECK(level({}).at("until").is_null());
  CHECK(level({"debug", "--for", "2h"}).at("level") == "debug");
  CHECK(level({}).at("until").is_string());
  CHECK(dmm::service_test::http("GET", subject.port(), "/metrics")
            .body.find("dmm_log_level{level=\"debug\"} 1") != std::string::npos);
  CHECK(subject.process().error_output().find("the log level was set for a while") !=
        std::string::npos);
  CHECK_NOTHROW(answer({"log-level"}, "in 119 min"));
  CHECK(level({"reset", "--worker", "players"}).at("level") == "info");
  const auto nobody = dmm({"log-level", "warn", "--worker", "nobody", "--timeout", "50"});
  CHECK(nobody.status.code == 4);
  CHECK(nobody.error_output.find("no worker called nobody answers") != std::string::npos);
  CHECK(dmm({"log-level", "loud"}).status.code == 2);
  CHECK(dmm({"log-level", "debug", "--for", "25h"}).status.code == 2);

  CHECK(subject.process().stop(SIGTERM).success());
  CHECK(json::parse(dmm({"workers", "-o", "json"}).output).empty());
}
#endif
