// Goal: the program that a user makes of a Service is one that an operator can run: it says how it
// does, follows its file, ends in two steps, and tells by its exit code how it ended.
// Method: the program of the tests as a process, against a private nats-server.

#include <catch2/catch.hpp>

#include <algorithm>
#include <mutex>

#include "dmm/bucket.h"
#include "dmm/internal/active_span.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/service/http.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"
#include "tests/service/subject.h"

namespace {

using dmm::service_test::http;
using dmm::service_test::json;
using dmm::service_test::Reply;
using dmm::service_test::server;
using dmm::service_test::Subject;
using dmm::testing::ExitStatus;
using namespace std::chrono_literals;

dmm::Bucket open(const std::string& ns) {
  dmm::BucketOptions options;
  options.connection.servers = {server().url()};
  options.logger = dmm::Logger();
  return dmm::Bucket::open(ns, std::move(options));
}

dmm::testing::Finished run(std::vector<std::string> arguments,
                           std::map<std::string, std::string> environment = {}) {
  dmm::testing::ChildOptions options;
  options.arguments = std::move(arguments);
  options.environment = std::move(environment);
  return dmm::testing::run(DMM_SUBJECT, std::move(options), 30s);
}

bool contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  UNSCOPED_INFO("no \"" << part << "\" in: " << text);
  return false;
}

void wait_until_running(Subject& subject) {
  dmm::testing::wait_for("the run", [&] {
    return contains(http("GET", subject.port(), "/metrics").body,
                    "dmm_runs_in_flight{type=\"player\"} 1");
  });
}

/// The traceparent of the token that the view left for the zone, on which nobody works here.
std::string zone_token(const std::string& ns) {
  dmm::ConnectionOptions connection;
  connection.servers = {server().url()};
  const auto transport = dmm::nats::connect(connection, dmm::Logger());
  const dmm::wire::Names names(ns);
  const auto message = dmm::transport::last(*transport->open(names.work(1), false),
                                            names.token_subject({"zone", "kitchen"}));
  transport->close();
  REQUIRE(message);
  return std::string(message->header(dmm::wire::kTraceparent).value_or(""));
}

}  // namespace

TEST_CASE("process: a service says how it does until it is told to end",
          "[service][process][integration]") {
  dmm::Bucket bucket = open("says");
  Subject subject(server().url(), "says", {"--zones", "--greeting", "good morning"});
  subject.wait_until_ready();
  CHECK(http("GET", subject.port(), "/livez").body == "alive\n");
  bucket.notify({"player", "kitchen"}, {{"song", "Naima"}});
  dmm::testing::wait_for("the run to be counted", [&] {
    return contains(http("GET", subject.port(), "/metrics").body,
                    "dmm_runs_total{type=\"player\",outcome=\"succeeded\"} 1\n");
  });
  const json status = json::parse(http("GET", subject.port(), "/statusz").body);
  CHECK(status.at("name") == "players");
  CHECK(status.at("namespace") == "says");
  CHECK(status.at("not_ready").empty());
  CHECK(status.at("types").at(0).at("lanes").size() == 64);
  CHECK(status.at("views").at(0).at("name") == "zones");
  CHECK(http("GET", subject.port(), "/nothing").status == 404);
  CHECK(http("DELETE", subject.port(), "/metrics").status >= 400);
  CHECK(subject.lines("greeting").at(0).at("greeting") == "good morning");
  for (const json& line : subject.lines("started")) CHECK(line.at("service") == "players");

  CHECK(subject.process().stop(SIGTERM) == ExitStatus{0, 0});
  CHECK(subject.lines("ended").size() == 1);
}

TEST_CASE("process: at the first signal what runs is finished and nothing else is begun",
          "[service][process][integration]") {
  dmm::Bucket bucket = open("drains");
  Subject subject(server().url(), "drains", {"--run-grace", "10s"});
  subject.wait_until_ready();
  bucket.notify({"player", "kitchen"}, {{"song", "Naima"}, {"hang_ms", 3'000}, {"stubborn", true}});
  wait_until_running(subject);
  subject.process().kill(SIGTERM);
  const auto ended = subject.process().wait(20s);
  REQUIRE(ended);
  CHECK(*ended == ExitStatus{0, 0});
  const auto kitchen = bucket.inspect().get({"player", "kitchen"});
  REQUIRE(kitchen);
  CHECK(kitchen->phase == dmm::Phase::settled);
}

TEST_CASE("process: a second signal ends it at once and nothing is lost",
          "[service][process][integration]") {
  dmm::Bucket bucket = open("twice");
  Subject subject(server().url(), "twice");
  subject.wait_until_ready();
  bucket.notify({"player", "kitchen"},
                {{"song", "Naima"}, {"hang_ms", 60'000}, {"stubborn", true}});
  wait_until_running(subject);
  subject.process().kill(SIGTERM);
  subject.wait_for_line("stopping: no new runs, those in flight are waited for");
  CHECK(http("GET", subject.port(), "/readyz").body == "not ready\n- stopping\n");
  subject.process().kill(SIGTERM);
  const auto ended = subject.process().wait(10s);
  REQUIRE(ended);
  CHECK(*ended == ExitStatus{6, 0});
  CHECK(subject.lines("ended by force").at(0).at("runs_in_flight") == 1);
  const auto kitchen = bucket.inspect().get({"player", "kitchen"});
  REQUIRE(kitchen);
  CHECK(kitchen->token.value > 0);  // the next worker finds it
}

TEST_CASE("process: when the grace time is over it ends by force",
          "[service][process][integration]") {
  dmm::Bucket bucket = open("grace");
  Subject subject(server().url(), "grace", {"--grace", "1s"});
  subject.wait_until_ready();
  bucket.notify({"player", "kitchen"},
                {{"song", "Naima"}, {"hang_ms", 60'000}, {"stubborn", true}});
  wait_until_running(subject);
  CHECK(subject.process().stop(SIGINT, 20s) == ExitStatus{6, 0});
  CHECK(subject.lines("ended by force").at(0).at("reason") == "the grace time is over");
}

TEST_CASE("process: SIGHUP reads the file again and a bad one changes nothing",
          "[service][process][integration]") {
  const dmm::testing::TemporaryDirectory directory;
  const std::string file = directory / "players.yaml";
  dmm::testing::write_file(file, "log_level: info\ngreeting: hello\n");
  Subject subject(server().url(), "reload", {"--config", file});
  subject.wait_until_ready();
  CHECK(http("GET", subject.port(), "/log-level").body == "info\n");

  dmm::testing::write_file(file, "log_level: debug\ngreeting: good evening\n");
  subject.process().kill(SIGHUP);
  subject.wait_for_line("reloaded");
  CHECK(subject.lines("reloaded").at(0).at("greeting") == "good evening");
  CHECK(http("GET", subject.port(), "/log-level").body == "debug\n");

  dmm::testing::write_file(file, "log_levle: warn\n");
  subject.process().kill(SIGHUP);
  subject.wait_for_line("the options could not be read again: what was in force stays");
  CHECK(http("GET", subject.port(), "/log-level").body == "debug\n");
  const std::string metrics = http("GET", subject.port(), "/metrics").body;
  CHECK(contains(metrics, "dmm_config_reloads_total{result=\"ok\"} 1"));
  CHECK(contains(metrics, "dmm_config_reloads_total{result=\"failed\"} 1"));
  CHECK(subject.process().stop(SIGTERM) == ExitStatus{0, 0});
}

TEST_CASE("process: the log level is set over HTTP but not by a page in a browser",
          "[service][process][integration]") {
  Subject subject(server().url(), "level");
  subject.wait_until_ready();
  const int port = subject.port();
  CHECK(http("PUT", port, "/log-level", "debug").body == "debug\n");
  CHECK(http("GET", port, "/log-level").body == "debug\n");
  CHECK(http("PUT", port, "/log-level", "loud").status == 400);
  CHECK(http("PUT", port, "/log-level", "warn", "evil.example").status == 403);
  CHECK(http("PUT", port, "/log-level", std::string(100'000, 'x')).status >= 400);
  CHECK(http("GET", port, "/log-level").body == "debug\n");
  CHECK(http("PUT", port, "/log-level", "warn", "localhost").body == "warn\n");
}

TEST_CASE("process: without the server it lives and is not ready and begins when it comes",
          "[service][process][integration]") {
  dmm::testing::NatsServer own;
  own.stop();
  Subject subject(own.url(), "late");
  subject.wait_for_line("the server cannot be reached; tried again");
  CHECK(http("GET", subject.port(), "/livez").status == 200);
  const Reply ready = http("GET", subject.port(), "/readyz");
  CHECK(ready.status == 503);
  CHECK(ready.body == "not ready\n- connecting to the NATS server\n");
  CHECK(contains(http("GET", subject.port(), "/metrics").body, "dmm_connected 0"));
  own.start();
  subject.wait_until_ready();
  own.stop();
  dmm::testing::wait_for("the loss to be noticed", [&] {
    return http("GET", subject.port(), "/readyz").body ==
           "not ready\n- not connected to the NATS server\n";
  });
  own.start();
  subject.wait_until_ready();
  CHECK(contains(http("GET", subject.port(), "/metrics").body, "dmm_connected 1"));
}

TEST_CASE("process: the usual port is left to who has it and a port that was asked for is not",
          "[service][process][integration]") {
  Subject first(server().url(), "ports", {}, {{"DMM_HTTP", ""}});
  Subject other(server().url(), "ports", {}, {{"DMM_HTTP", ""}});
  CHECK(first.port() != other.port());
  first.wait_until_ready();
  other.wait_until_ready();

  const std::string taken = "127.0.0.1:" + std::to_string(first.port());
  const auto second =
      run({"--namespace", "ports", "--http", taken}, {{"DMM_SERVER", server().url()}});
  CHECK(second.status == ExitStatus{2, 0});
  CHECK(contains(second.error_output, "cannot listen on " + taken));
}

TEST_CASE("process: the exit code says how it ended", "[service][process][integration]") {
  CHECK(run({"--help"}).status == ExitStatus{0, 0});
  CHECK(contains(run({"--help"}).output, "keeps players playing"));
  CHECK(contains(run({"--version"}).output, "players with dmm "));
  const auto wrong = run({"--naemspace", "x"});
  CHECK(wrong.status == ExitStatus{2, 0});
  CHECK(contains(wrong.error_output, "players: DMM-0404: there is no option --naemspace"));
  CHECK(run({"--colour", "blue"}).status == ExitStatus{2, 0});
  CHECK(run({}, {{"PLAYERS_COLOUR", "blue"}}).status == ExitStatus{2, 0});

  const std::string nowhere = "nats://127.0.0.1:" + std::to_string(dmm::testing::free_port());
  const auto unreachable =
      run({"--connect-timeout", "0s", "--http", "off"}, {{"DMM_SERVER", nowhere}});
  CHECK(unreachable.status == ExitStatus{3, 0});
  CHECK(contains(unreachable.error_output, "DMM-0101"));

  const std::map<std::string, std::string> here = {{"DMM_SERVER", server().url()}};
  const auto failed = run({"--throw", "--http", "off"}, here);
  CHECK(failed.status == ExitStatus{1, 0});
  CHECK(contains(failed.error_output, "told to fail"));
  const auto missing =
      run({"--namespace", "nothing_here", "--create", "false", "--http", "off"}, here);
  CHECK(missing.status == ExitStatus{3, 0});

  const auto shown = run({"--show-config", "--greeting", "hi"}, {{"DMM_NAMESPACE", "music"}});
  CHECK(shown.status == ExitStatus{0, 0});
  CHECK(contains(shown.output, "namespace: \"music\"  # DMM_NAMESPACE\n"));
  CHECK(contains(shown.output, "greeting: \"hi\"  # flag\n"));
}

TEST_CASE("process: a secret is in no log and on no page", "[service][process][integration]") {
  const std::string url = server().url();
  const std::string with_secret = "nats://me:geheim@" + url.substr(url.find("://") + 3);
  Subject subject(with_secret, "secret", {"--log-level", "debug"});
  subject.wait_until_ready();
  std::string all =
      dmm::testing::read_file("/proc/" + std::to_string(subject.process().pid()) + "/cmdline");
  for (const char* path : {"/metrics", "/statusz", "/readyz", "/"}) {
    all += http("GET", subject.port(), path).body;
  }
  CHECK(subject.process().stop(SIGTERM) == ExitStatus{0, 0});
  all += subject.process().error_output() + subject.process().output();
  CHECK(all.size() > 1'000);
  CHECK(all.find("geheim") == std::string::npos);
}

TEST_CASE("process: a trace goes from the report through observer and view into the runs",
          "[service][process][integration]") {
  std::mutex mutex;
  std::vector<json> spans;
  const dmm::service::HttpServer collector(
      "127.0.0.1", 0,
      [&](const dmm::service::HttpRequest& request) -> dmm::service::HttpAnswer {
        const json told = json::parse(request.body);
        const std::lock_guard lock(mutex);
        for (const json& resource : told.at("resourceSpans")) {
          for (const json& scope : resource.at("scopeSpans")) {
            for (const json& span : scope.at("spans")) spans.push_back(span);
          }
        }
        return {200, "{}"};
      },
      1'000'000);
  const auto span_called = [&](const std::string& name) {
    const std::lock_guard lock(mutex);
    const auto found =
        std::ranges::find_if(spans, [&](const json& s) { return s.at("name") == name; });
    return found == spans.end() ? json() : *found;
  };
  dmm::Bucket bucket = open("trace");
  Subject subject(server().url(), "trace",
                  {"--zones", "--traces", "http://127.0.0.1:" + std::to_string(collector.port()),
                   "--traces-sampled", "0"});
  // What a view loads is as old as it is, and belongs to no trace.
  dmm::testing::wait_for("the view to be loaded", [&] {
    return http("GET", subject.port(), "/metrics").body.find("dmm_view_loaded{view=\"zones\"} 1") !=
           std::string::npos;
  });

  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  {
    // A report as a device sends it that takes part in a trace.
    const dmm::internal::ActiveSpan device(nullptr, "00-" + trace + "-00f067aa0ba902b7-01",
                                           dmm::Span::Role::producer, "report", "player");
    bucket.report("player", "kitchen", {{"song", "Naima"}});
  }
  for (const char* name : {"observe player", "step zones", "materialize player"}) {
    dmm::testing::wait_for(std::string("the span \"") + name + "\"",
                           [&] { return span_called(name).is_object(); });
  }
  const json observed = span_called("observe player");
  const json run = span_called("materialize player");
  const json step = span_called("step zones");
  CHECK(observed.at("traceId") == trace);
  CHECK(observed.at("parentSpanId") == "00f067aa0ba902b7");
  CHECK(run.at("traceId") == trace);
  CHECK(run.at("parentSpanId") == observed.at("spanId"));
  CHECK(step.at("traceId") == trace);
  CHECK(step.at("parentSpanId") == "00f067aa0ba902b7");

  // materialize saw its own place, and the token of the view carries that of its step.
  const json stored = bucket.matter({"player", "kitchen"});
  CHECK(stored.at("told") == "00-" + trace + "-" + run.at("spanId").get<std::string>() + "-01");
  const auto token = zone_token("trace");
  CHECK(token == "00-" + trace + "-" + step.at("spanId").get<std::string>() + "-01");

  // What belongs to no trace begins none, for none is sampled.
  const std::size_t before = [&] {
    const std::lock_guard lock(mutex);
    return spans.size();
  }();
  bucket.notify({"player", "attic"}, {{"song", "Naima"}});
  dmm::testing::wait_for("the other run", [&] {
    const auto attic = bucket.inspect().get({"player", "attic"});
    return attic && attic->phase == dmm::Phase::settled;
  });
  CHECK(bucket.matter({"player", "attic"}).at("told") == "");
  CHECK(subject.process().stop(SIGTERM) == ExitStatus{0, 0});
  const std::lock_guard lock(mutex);
  CHECK(spans.size() == before);
}
