// Goal: what goes down to devices arrives, or is known not to: commands, their answers, offline
// devices that come back, and the documents that are kept for them. Method: a worker in this
// process or one that is killed, real servers, and devices as C++ hosts, bare messengers and MQTT
// clients.

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <atomic>
#include <deque>
#include <sstream>

#include "dmm/device.h"
#include "dmm/json.h"
#include "dmm/nats/messenger.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

constexpr const char* kKind = "speaker";

ConnectionOptions connection_to(const testing::NatsServer& server) {
  ConnectionOptions options;
  options.servers = {server.url()};
  return options;
}

DeviceHost host_on(const testing::NatsServer& server) {
  DeviceHostOptions options;
  options.connection = connection_to(server);
  options.logger = Logger();
  return DeviceHost::connect(kNamespace, kKind, std::move(options));
}

/// Materialize: commands the device of the same name, and keeps its answer.
Outcome obey_within(std::chrono::milliseconds time, Context& context, json& cache) {
  const CommandReply reply = context.command(kKind, context.identity().id, cache["say"], time);
  if (reply.offline()) return Outcome::wait_for_report(kKind, context.identity().id);
  cache["answer"] = reply.get();
  return Outcome::done();
}
Outcome obey(Context& context, json& cache) {
  return obey_within(10s, context, cache);
}

/// A device that answers with whatever bytes it is told to.
struct RudeDevice {
  std::shared_ptr<transport::Messenger> messenger;
  std::unique_ptr<transport::Subscription> subscription;

  RudeDevice(const testing::NatsServer& server, const std::string& device,
             std::function<void(transport::Messenger&, const transport::Note&)> answer)
      : messenger(nats::make_messenger(connection_to(server), Logger())) {
    subscription =
        messenger->subscribe(names().command_subject(kKind, device, ">"), {},
                             [&messenger = *messenger, answer](const transport::Note& note) {
                               answer(messenger, note);
                             });
  }
};

Matter wait_offline(Bucket& bucket, const std::string& id) {
  wait_for("the wait for " + id, [&] { return phase(bucket, thing(id)) == Phase::offline; });
  return look(bucket, thing(id));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool mosquitto_is_there() {
  if (testing::find_program("mosquitto_sub")) return true;
  const std::string text = "skipped: install the Debian package mosquitto-clients";
  if (std::getenv("DMM_REQUIRE_CLIENTS") != nullptr) FAIL(text);
  WARN(text);
  return false;
}

/// A device that is nothing but mosquitto_sub and mosquitto_pub.
class MqttDevice final {
 public:
  MqttDevice(const testing::NatsServer& server, const std::string& topic)
      : port_(std::to_string(server.mqtt_port())), listener_("mosquitto_sub", listening(topic)) {}

  /// Waits for a line "<topic> <payload>" that is not one of `seen` lines.
  std::string next_line(std::size_t seen) {
    wait_for("line " + std::to_string(seen + 1) + " of mosquitto_sub",
             [&] { return lines_of(listener_.output()).size() > seen; });
    return lines_of(listener_.output())[seen];
  }
  void publish(const std::string& topic, const std::string& payload) {
    testing::ChildOptions options;
    options.arguments = {"-h", "127.0.0.1", "-p", port_, "-q", "1", "-t", topic, "-m", payload};
    const testing::Finished finished = testing::run("mosquitto_pub", options, 20s);
    INFO(finished.error_output);
    REQUIRE(finished.status.success());
  }
  /// Topics that nobody listens on tell that the subscription is not there yet.
  std::size_t lines() { return lines_of(listener_.output()).size(); }

 private:
  testing::ChildOptions listening(const std::string& topic) {
    testing::ChildOptions options;
    options.arguments = {"-h", "127.0.0.1", "-p", port_, "-t", topic, "-F", "%t %p"};
    return options;
  }

  std::string port_;
  testing::ChildProcess listener_;
};

}  // namespace

TEST_CASE("command: a device answers and learns who commands", "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(obey), quick());
  std::vector<Command> commands;
  DeviceHost host = host_on(server);
  host.serve_commands("living room", [&](const Command& command) {
    commands.push_back(command);
    return json{{"heard", command.payload}};
  });
  Worker worker(bucket);
  bucket.notify(thing("living room"), json{{"say", "hello"}});
  wait_settled_on(bucket, thing("living room"),
                  json{{"answer", {{"heard", "hello"}}}, {"say", "hello"}});
  worker.stop();
  REQUIRE(commands.size() == 1);
  CHECK(commands[0].device == "living room");
  CHECK(commands[0].from == "thing.living=20room");
  CHECK(commands[0].epoch.value == journal.runs("living room").at(0).epoch);
  CHECK(commands[0].deadline > std::chrono::system_clock::now() - 10s);
}

TEST_CASE("command: an offline device is waited for without attempts and runs at its next report",
          "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions work = quick();
  work.attempts_max = 1;  // one counted attempt would park it
  bucket.register_type(kType, journal.noting(obey), work);
  bucket.report(kKind, "a", json{{"on", true}});  // of a former life: does not count
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"say", 1}});
  const Matter matter = wait_offline(bucket, "a");
  CHECK(matter.attempts == 0);
  CHECK(matter.error_code == "DMM-0701");
  CHECK(matter.waits_for == "speaker.a");
  REQUIRE(matter.next_retry_at);
  CHECK(*matter.next_retry_at - *matter.failed_at >= 3min);
  // Reports of others change nothing.
  bucket.report(kKind, "b", json{{"on", true}});
  pass_barrier(bucket, journal);
  CHECK(journal.count("a") == 1);

  DeviceHost host = host_on(server);
  host.serve_commands("a", [](const Command&) { return json("ok"); });
  host.report("a", json{{"on", true}});
  // Long before it would be tried again without a report.
  wait_settled_on(bucket, thing("a"), json{{"answer", "ok"}, {"say", 1}});
  const std::vector<Run> runs = journal.runs("a");
  REQUIRE(runs.size() == 2);
  CHECK(runs[1].attempt == 1);
}

TEST_CASE(
    "command: many identities may wait for one device and a device that left is waited for again",
    "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context& context, json& cache) {
    context.command(kKind, "hub", cache, 2s).get();  // lets DeviceOffline pass
    cache["done"] = true;
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  for (const char* id : {"a", "b", "c"}) bucket.notify(thing(id), json::object());
  for (const char* id : {"a", "b", "c"}) wait_offline(bucket, id);
  // A report without the device being there: tried, and waited for again.
  bucket.report(kKind, "hub", json{{"n", 1}});
  wait_for("a second run of all", [&] {
    return journal.count("a") == 2 && journal.count("b") == 2 && journal.count("c") == 2;
  });
  for (const char* id : {"a", "b", "c"}) wait_offline(bucket, id);
  CHECK(bucket.inspect().list(kType).size() == 3);
  DeviceHost host = host_on(server);
  host.serve_commands("hub", [](const Command&) { return json(); });
  host.report("hub", json{{"n", 2}});
  for (const char* id : {"a", "b", "c"}) {
    wait_settled_on(bucket, thing(id), json{{"done", true}}, 5s);
    CHECK(journal.runs(id).back().attempt == 1);
  }
  // News come before the report.
  host.stop("hub");
  bucket.notify(thing("a"), json{{"x", 1}});
  wait_offline(bucket, "a");
  host.serve_commands("hub", [](const Command&) { return json(); });
  bucket.notify(thing("a"), json{{"x", 2}});
  wait_settled_on(bucket, thing("a"), json{{"done", true}, {"x", 2}}, 5s);
}

TEST_CASE("command: a device that is heard of by nobody is tried again after a while",
          "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions work = quick();
  work.offline_retry = 300ms;
  bucket.register_type(kType, journal.noting(obey), work);
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"say", 1}});
  wait_offline(bucket, "a");
  DeviceHost host = host_on(server);
  host.serve_commands("a", [](const Command&) { return json("ok"); });  // and it reports nothing
  wait_settled_on(bucket, thing("a"), json{{"answer", "ok"}, {"say", 1}}, 5s);
  for (const Run& run : journal.runs("a")) CHECK(run.attempt == 1);
}

TEST_CASE("command: a device that does not answer costs an attempt and no more than its time",
          "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  RudeDevice device(server, "mute", [](auto&, const auto&) {});
  const auto begun = std::chrono::steady_clock::now();
  const CommandReply reply = bucket.command(kKind, "mute", json(1), 300ms);
  CHECK(reply.result() == CommandReply::Result::no_answer);
  CHECK(code_of([&] { reply.get(); }) == "DMM-0702");
  CHECK(std::chrono::steady_clock::now() - begun >= 300ms);
  CHECK(std::chrono::steady_clock::now() - begun < 4'500ms);  // it would have 5 s unasked

  // The run's own deadline comes first; it is asked to stop, and the wait ends.
  Journal journal;
  WorkOptions work = quick();
  work.timeout = 300ms;
  bucket.register_type(kType, journal.noting([](Context& context, json&) {
    context.command(kKind, "mute", json(1), 60s).get();
    return Outcome::done();
  }),
                       work);
  Worker worker(bucket);
  bucket.notify(thing("a"), json::object());
  wait_for("two attempts", [&] { return journal.count("a") >= 2; });
  const Run run = journal.runs("a").at(0);
  CHECK(run.length() >= 250ms);
  CHECK(run.length() < 5s);
  CHECK(phase(bucket, thing("a")) == Phase::failing);
  // Stopping does not wait for the device either.
  const auto stopping = std::chrono::steady_clock::now();
  worker.stop();
  CHECK(std::chrono::steady_clock::now() - stopping < 5s);
}

TEST_CASE("command: answers that cannot be read and refusals are told apart",
          "[downlink][integration]") {
  testing::NatsServerOptions options;
  options.payload_bytes_max = 4'000'000;
  testing::NatsServer server(options);
  Bucket bucket = open_bucket(server);
  std::string payload;
  transport::Headers headers;
  std::string behind;
  RudeDevice device(server, "rude", [&](transport::Messenger& messenger, const auto& note) {
    messenger.send({note.reply + behind, {}, headers, payload});
  });
  using Result = CommandReply::Result;
  const auto result = [&](std::string said) {
    payload = std::move(said);
    return bucket.command(kKind, "rude", json(1), 5s);
  };
  CHECK(result("{\"a\":1}").get() == json{{"a", 1}});
  CHECK(result("").answered());
  CHECK(result("").get().is_null());
  for (const std::string& rubbish :
       {std::string("{"), std::string("\xff\xfe"), std::string("{\"a\":1,\"a\":2}"),
        std::string(1'000'001, ' '), std::string(100, '[') + std::string(100, ']')}) {
    const CommandReply reply = result(rubbish);
    CHECK(reply.result() == Result::unreadable);
    CHECK(code_of([&] { reply.get(); }) == "DMM-0704");
  }
  behind = ".refused";
  CommandReply refused = result("busy\nnow");
  CHECK(refused.result() == Result::refused);
  CHECK(refused.reason() == "busy\\x0Anow");
  behind.clear();
  headers = {{"Nats-Service-Error", "no power"}};
  refused = result("");
  CHECK(refused.reason() == "no power");
  CHECK(code_of([&] { refused.get(); }) == "DMM-0703");

  DeviceHost host = host_on(server);
  host.serve_commands("shy", [](const Command&) -> json { throw std::runtime_error("not now"); });
  refused = bucket.command(kKind, "shy", json(1), 5s);
  CHECK(refused.refused());
  CHECK(refused.reason() == "not now");
}

TEST_CASE("command: bad arguments are refused before anything is sent", "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  std::atomic<int> heard = 0;
  DeviceHost host = host_on(server);
  host.serve_commands("a", [&](const Command&) {
    ++heard;
    return json();
  });
  json deep = 1;
  for (std::size_t i = 0; i <= limits::json_depth_max; ++i) deep = json::array({deep});
  CHECK(code_of([&] { bucket.command("no kind", "a", json(1)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.command(kKind, std::string(256, 'x'), json(1)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.command(kKind, "a", json(std::string(1'000'000, 'x'))); }) ==
        "DMM-0202");
  CHECK(code_of([&] { bucket.command(kKind, "a", deep); }) == "DMM-0204");
  CHECK(code_of([&] { bucket.command(kKind, "a", json(1), 0ms); }) == "DMM-0404");
  std::stop_source stopped;
  stopped.request_stop();
  CHECK(code_of([&] { bucket.command(kKind, "a", json(1), 1s, stopped.get_token()); }) ==
        "DMM-0305");
  CHECK(heard == 0);
  CHECK(code_of([&] { bucket.set_shadow(kKind, std::string(256, 'x'), json(1)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.set_shadow(kKind, "a", deep); }) == "DMM-0204");
  CHECK(code_of([&] {
          host.serve_commands(std::string(256, 'x'), [](auto&) { return json(); });
        }) == "DMM-0201");
  bucket.command(kKind, "a", json(1));
  CHECK(heard == 1);
  bucket.close();
  CHECK(code_of([&] { bucket.command(kKind, "a", json(1)); }) == "DMM-0108");
}

TEST_CASE("command: a crash of the server in the middle is no answer and the next command is heard",
          "[downlink][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  // The first answer never comes.
  bucket.register_type(kType, journal.noting([](Context& context, json& cache) {
    return obey_within(2s, context, cache);
  }),
                       quick());
  Gate gate;
  std::atomic<int> heard = 0;
  DeviceHost host = host_on(server);
  host.serve_commands("a", [&](const Command&) {
    ++heard;
    gate.pass();
    return json("ok");
  });
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"say", 1}});
  wait_for("the command", [&] { return heard == 1; });
  server.kill();
  gate.open();  // the answer goes nowhere
  server.start();
  wait_settled_on(bucket, thing("a"), json{{"answer", "ok"}, {"say", 1}}, 30s);
  CHECK(heard >= 2);
}

TEST_CASE("command: a worker killed while it waits for a device is replaced by one that waits",
          "[downlink][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  testing::TemporaryDirectory directory;
  const auto journal = directory.path() / "journal";
  auto first = std::make_unique<WorkerProcess>(server, journal);
  bucket.notify(thing("a"), json{{"value", 1}, {"command", "on"}});
  wait_offline(bucket, "a");
  first->kill();
  WorkerProcess second(server, journal);
  wait_for("a run of the second worker", [&] { return read_runs_of(journal, "a").size() == 2; });
  CHECK(wait_offline(bucket, "a").attempts == 0);
  DeviceHost host = host_on(server);
  host.serve_commands("a", [](const Command& command) { return command.payload; });
  host.report("a", json{{"on", true}});
  wait_for("the success", [&] { return settled_with(bucket, thing("a"), json(1)); });
  CHECK(read_runs_of(journal, "a").back().attempt == 1);
}

TEST_CASE("shadow: is written when it changes and read by a device that comes late",
          "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  CHECK(bucket.shadow(kKind, "a") == std::nullopt);
  CHECK(bucket.set_shadow(kKind, "a", json{{"song", 1}, {"volume", 2}}));
  CHECK_FALSE(bucket.set_shadow(kKind, "a", json{{"volume", 2}, {"song", 1}}));
  const std::vector<Shadow> kept = bucket.inspect().shadows({});
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].revision.value == 1);
  CHECK(kept[0].device == "a");

  DeviceHost host = host_on(server);
  CHECK(host.shadow("a") == json{{"song", 1}, {"volume", 2}});
  CHECK(host.shadow("b") == std::nullopt);
  std::mutex mutex;
  std::vector<json> heard;  // null: nothing is desired
  host.follow_shadow("a", [&](const std::optional<json>& document) {
    const std::lock_guard lock(mutex);
    heard.push_back(document.value_or(json()));
  });
  const auto wait_heard = [&](const std::vector<json>& all) {
    wait_for("the shadow", [&] {
      const std::lock_guard lock(mutex);
      return heard == all;
    });
  };
  const json first{{"song", 1}, {"volume", 2}};
  wait_heard({first});
  bucket.set_shadow(kKind, "a", json(2));
  wait_heard({first, 2});
  bucket.set_shadow(kKind, "a", json(2));  // told again, and known already
  bucket.set_shadow(kKind, "a", json(3));
  wait_heard({first, 2, 3});
  CHECK(bucket.clear_shadow(kKind, "a"));
  wait_heard({first, 2, 3, json()});
  CHECK_FALSE(bucket.clear_shadow(kKind, "a"));
  CHECK(bucket.shadow(kKind, "a") == std::nullopt);
  CHECK(bucket.inspect().shadows(kKind).empty());
  CHECK(bucket.set_shadow(kKind, "a", json(4)));
  wait_heard({first, 2, 3, json(), 4});
}

TEST_CASE("shadow: a run keeps one for its device and a late worker does not turn it back",
          "[downlink][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context& context, json& cache) {
    if (context.deleted()) {
      context.clear_shadow(kKind, context.identity().id);
    } else {
      cache["changed"] = context.set_shadow(kKind, context.identity().id, cache["want"]);
    }
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"want", "x"}});
  wait_settled_on(bucket, thing("a"), json{{"changed", true}, {"want", "x"}});
  CHECK(bucket.shadow(kKind, "a") == json("x"));
  CHECK(bucket.inspect().shadows(kKind).at(0).from == "thing.a");
  bucket.remove(thing("a"));
  wait_for("the tear-down", [&] { return bucket.shadow(kKind, "a") == std::nullopt; });

  // As if the next owner had written already.
  const auto messenger = nats::make_messenger(connection_to(server), Logger());
  messenger->send({.subject = names().shadow_subject(kKind, "b"),
                   .headers = {{"Dmm-From", "thing.b"}, {"Dmm-Epoch", "1000000"}},
                   .payload = "\"newer\""});
  wait_for("it to be stored", [&] { return bucket.shadow(kKind, "b") == json("newer"); });
  bucket.notify(thing("b"), json{{"want", "older"}});
  wait_for("the failure", [&] { return phase(bucket, thing("b")) == Phase::failing; });
  CHECK(look(bucket, thing("b")).error.find("DMM-0307") != std::string::npos);
  CHECK(bucket.shadow(kKind, "b") == json("newer"));
}

TEST_CASE("shadow: a device that lost the server reads what it missed",
          "[downlink][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  bucket.set_shadow(kKind, "a", json(1));
  std::mutex mutex;
  std::deque<json> heard;
  DeviceHost host = host_on(server);
  host.follow_shadow("a", [&](const std::optional<json>& document) {
    const std::lock_guard lock(mutex);
    heard.push_back(document.value_or(json()));
  });
  const auto last_heard = [&] {
    const std::lock_guard lock(mutex);
    return heard.empty() ? json() : heard.back();
  };
  wait_for("the first", [&] { return last_heard() == json(1); });
  server.kill();
  server.start();
  // As soon as the writer is back; the device may be, or not yet.
  wait_for(
      "the write",
      [&] {
        try {
          bucket.set_shadow(kKind, "a", json(2));
          return true;
        } catch (const Error&) {
          return false;
        }
      },
      20s);
  wait_for(
      "the second", [&] { return last_heard() == json(2); }, 20s);
}

TEST_CASE("device: needs no rights but those on its own name", "[downlink][integration]") {
  testing::NatsServerOptions options;
  testing::NatsUser& worker = options.users.emplace_back();
  worker.user = "worker";
  worker.password = "w";
  testing::NatsUser& device = options.users.emplace_back();
  device.user = device.password = "a";
  device.publish = {"dmm.test.report.speaker.a", "dmm.test.reply.speaker.a.>",
                    "dmm.test.ask.speaker.a",
                    "$JS.API.DIRECT.GET.DMM_test_SHADOW.dmm.test.shadow.speaker.a"};
  device.subscribe = {"dmm.test.command.speaker.a.>", "dmm.test.desired.speaker.a", "_INBOX.>"};
  testing::NatsServer server(options);
  BucketOptions bucket_options;
  bucket_options.connection = connection_to(server);
  bucket_options.connection.user = "worker";
  bucket_options.connection.password = "w";
  bucket_options.logger = Logger();
  Bucket bucket = Bucket::open(kNamespace, std::move(bucket_options));
  bucket.set_shadow(kKind, "a", json(1));
  bucket.set_shadow(kKind, "b", json(2));

  DeviceHostOptions host_options;
  host_options.connection = connection_to(server);
  host_options.connection.user = host_options.connection.password = "a";
  host_options.logger = Logger();
  DeviceHost host = DeviceHost::connect(kNamespace, kKind, std::move(host_options));
  host.serve_commands("a", [](const Command&) { return json("ok"); });
  host.report("a", json{{"on", true}});
  std::atomic<int> heard = 0;
  host.follow_shadow("a", [&](const std::optional<json>& document) {
    heard = document ? document->get<int>() : 0;
  });
  CHECK(bucket.command(kKind, "a", json(1)).get() == "ok");
  wait_for("the shadow", [&] { return heard == 1; });
  bucket.set_shadow(kKind, "a", json(3));
  wait_for("the change", [&] { return heard == 3; });
  CHECK(bucket.inspect().reports(kKind).size() == 1);
  // Of others it reads and says nothing.
  CHECK(code_of([&] { host.shadow("b"); }) == "DMM-0103");
  CHECK(code_of([&] { host.report("b", json(1)); }) == "DMM-0105");
  CHECK(bucket.inspect().reports(kKind).size() == 1);
}

TEST_CASE("mqtt: a mosquitto client is commanded and answers or refuses",
          "[downlink][mqtt][integration]") {
  if (!mosquitto_is_there()) return;
  testing::NatsServerOptions options;
  options.mqtt = true;
  testing::NatsServer server(options);
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(obey), quick());
  Worker worker(bucket);
  bucket.notify(thing("kitchen"), json{{"say", 7}});
  wait_offline(bucket, "kitchen");

  MqttDevice device(server, "dmm/test/command/speaker/kitchen/+/+");
  // The first command that it hears tells that it listens.
  const auto reply_topic = [](const std::string& line) {
    std::string topic = line.substr(0, line.find(' '));
    return topic.replace(topic.find("/command/"), 9, "/reply/");
  };
  std::size_t seen = 0;
  wait_for("the device to come online", [&] {
    return bucket.command(kKind, "kitchen", json("ping"), 200ms).result() ==
           CommandReply::Result::no_answer;
  });
  CHECK(device.next_line(seen++).ends_with(" \"ping\""));
  device.publish("dmm/test/report/speaker/kitchen", R"({"on":true})");
  const std::string line = device.next_line(seen++);
  INFO(line);
  CHECK(line.ends_with(" 7"));
  CHECK(line.starts_with("dmm/test/command/speaker/kitchen/"));
  device.publish(reply_topic(line), R"({"said":7})");
  wait_settled_on(bucket, thing("kitchen"), json{{"answer", {{"said", 7}}}, {"say", 7}});

  std::optional<CommandReply> reply;
  std::jthread caller([&] { reply = bucket.command(kKind, "kitchen", json(8), 20s); });
  device.publish(reply_topic(device.next_line(seen++)) + "/refused", "too loud");
  caller.join();
  REQUIRE(reply);
  CHECK(reply->refused());
  CHECK(reply->reason() == "too loud");
}

TEST_CASE("mqtt: a mosquitto client that comes late asks for its shadow",
          "[downlink][mqtt][integration]") {
  if (!mosquitto_is_there()) return;
  testing::NatsServerOptions options;
  options.mqtt = true;
  testing::NatsServer server(options);
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);  // who answers
  bucket.set_shadow(kKind, "kitchen", json{{"song", 1}});
  MqttDevice device(server, "dmm/test/desired/speaker/kitchen");
  // As a device does that has not heard anything yet: it asks again.
  wait_for("the shadow", [&] {
    device.publish("dmm/test/ask/speaker/kitchen", "");
    return becomes_true([&] { return device.lines() > 0; }, 500ms);
  });
  CHECK(device.next_line(0) == "dmm/test/desired/speaker/kitchen {\"song\":1}");
  const std::size_t seen = device.lines();
  bucket.set_shadow(kKind, "kitchen", json{{"song", 2}});
  wait_for("the change",
           [&] { return device.next_line(device.lines() - 1).ends_with(" {\"song\":2}"); });
  CHECK(device.lines() > seen);
}
