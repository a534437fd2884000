// Goal: every report that can be read reaches its handler, at least once and the newest last, and
// what cannot be read is put aside with its reason.

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

constexpr const char* kKind = "speaker";

struct Song {
  int song = 0;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Song, song)
};

// The reports that a handler was given, by device. Thread-safe.
class Heard final {
 public:
  void add(const std::string& device, json report) {
    const std::lock_guard lock(mutex_);
    heard_[device].push_back(std::move(report));
  }
  std::vector<json> of(const std::string& device) const {
    const std::lock_guard lock(mutex_);
    const auto found = heard_.find(device);
    return found == heard_.end() ? std::vector<json>() : found->second;
  }
  std::size_t devices() const {
    const std::lock_guard lock(mutex_);
    return heard_.size();
  }
  ReportHandler handler() {
    return [this](ObserveContext& context, const json& report) { add(context.device(), report); };
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<json>> heard_;
};

void wait_heard(const Heard& heard, const std::string& device, const json& report) {
  wait_for("the report " + report.dump() + " of " + device, [&] {
    const std::vector<json> all = heard.of(device);
    return !all.empty() && all.back() == report;
  });
}

Observer& observe(Bucket& bucket, ReportHandler handler) {
  return bucket.observe(kKind, std::move(handler));
}

Refused refused_on(Bucket& bucket, const std::string& subject) {
  Refused result;
  wait_for("the refusal of " + subject, [&] {
    for (const Refused& refused : bucket.inspect().refused()) {
      if (refused.subject == subject) result = refused;
    }
    return !result.subject.empty();
  });
  return result;
}

}  // namespace

TEST_CASE("observer: the last report of every device reaches the handler",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  Observer& observer = observe(bucket, heard.handler());
  bucket.report(kKind, "early", json{{"song", 1}});
  Worker worker(bucket);
  std::vector<std::pair<std::string, json>> batch;
  for (int i = 0; i < 300; ++i) batch.emplace_back(std::to_string(i), json{{"song", i}});
  REQUIRE(bucket.report_all(kKind, batch).empty());
  wait_heard(heard, "early", json{{"song", 1}});
  for (const auto& [device, report] : batch) wait_heard(heard, device, report);
  wait_for("all to be counted", [&] { return observer.stats().handled == 301; });
  CHECK(observer.stats().failed == 0);
  CHECK(observer.stats().refused == 0);

  for (int i = 1; i <= 500; ++i) bucket.report(kKind, "busy", json{{"song", i}});
  wait_heard(heard, "busy", json{{"song", 500}});
  CHECK(std::ranges::is_sorted(heard.of("busy")));
}

TEST_CASE("observer: a typed handler compares changes and notifies", "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  bucket.observe<Song>(kKind, [](ObserveContext& context, const Song& report) {
    json cache = context.matter(thing(context.device()));
    if (cache.is_object() && cache["song"] == report.song) return;
    context.notify(thing(context.device()), json{{"song", report.song}});
  });
  Worker worker(bucket);
  bucket.report(kKind, "a", json{{"song", 3}});
  wait_settled_on(bucket, thing("a"), json{{"song", 3}});
  bucket.report(kKind, "a", json{{"song", 3}, {"volume", 11}});
  bucket.report(kKind, "b", json{{"song", 4}});
  wait_settled_on(bucket, thing("b"), json{{"song", 4}});
  CHECK(journal.count("a") == 1);

  RawClient raw(server.port());
  const std::string subject = names().report_subject(kKind, "misfit");
  raw.store(subject, R"({"song":"not a number"})");
  CHECK(refused_on(bucket, subject).error_code == "DMM-0209");
  bucket.report(kKind, "a", json{{"song", 5}});
  wait_settled_on(bucket, thing("a"), json{{"song", 5}});
}

TEST_CASE("observer: the cursor is kept over a restart", "[observer][integration]") {
  testing::NatsServer server;
  Heard first;
  {
    Bucket bucket = open_bucket(server);
    observe(bucket, first.handler());
    Worker worker(bucket);
    for (int i = 0; i < 50; ++i) bucket.report(kKind, std::to_string(i), json{{"song", i}});
    wait_for("all 50", [&] { return first.devices() == 50; });
  }
  Heard second;
  Bucket bucket = open_bucket(server);
  observe(bucket, second.handler());
  bucket.report(kKind, "while nobody looked", json{{"song", 1}});
  Worker worker(bucket);
  bucket.report(kKind, "7", json{{"song", 700}});
  wait_heard(second, "while nobody looked", json{{"song", 1}});
  wait_heard(second, "7", json{{"song", 700}});
  CHECK(second.devices() == 2);
}

TEST_CASE("observer: a report whose handler was killed is handled by the next worker",
          "[observer][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  Bucket bucket = open_bucket(server);
  {
    WorkerProcess first(server, journal, {"--observe", kKind});
    bucket.report(kKind, "done", json{{"value", 1}});
    wait_for("the first report", [&] { return settled_with(bucket, thing("done"), 1); });
    bucket.report(kKind, "cut", json{{"value", 2}, {"hold", (files / "go").string()}});
    wait_for("its handler", [&] { return read_runs(journal, "report").size() == 2; });
    bucket.report(kKind, "behind", json{{"value", 3}});
    wait_for("the report behind it", [&] { return settled_with(bucket, thing("behind"), 3); });
    first.kill();
  }
  CHECK_FALSE(bucket.inspect().get(thing("cut")));
  testing::write_file(files / "go", "");
  WorkerProcess second(server, journal, {"--observe", kKind});
  wait_for("the report that was cut", [&] { return settled_with(bucket, thing("cut"), 2); });
}

TEST_CASE("observer: malformed reports are parked with a reason and the others are handled",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  Observer& observer = observe(bucket, heard.handler());
  Worker worker(bucket);
  RawClient raw(server.port());
  struct Case {
    const char* device;
    std::string payload;
    const char* code;
  };
  const std::vector<Case> cases{
      {"not-json", "I am a player", "DMM-0203"},
      {"empty", "", "DMM-0203"},
      {"truncated", R"({"song":1,"volu)", "DMM-0203"},
      {"two-values", "{} {}", "DMM-0203"},
      {"deep", std::string(200'000, '[') + std::string(200'000, ']'), "DMM-0204"},
      {"deep-objects",
       [] {
         std::string text;
         for (int i = 0; i < 100'000; ++i) text += R"({"a":)";
         return text;
       }(),
       "DMM-0204"},
      {"nul-escape", R"({"song":"\u0000"})", "DMM-0205"},
      {"nul-byte", std::string("{\"song\":\"\0\"}", 12), "DMM-0205"},
      {"utf-8", "{\"song\":\"\xff\xfe\"}", "DMM-0205"},
      {"number", R"({"song":1e400})", "DMM-0206"},
      {"twice", R"({"song":1,"song":2})", "DMM-0213"},
      {"large", "\"" + std::string(limits::payload_bytes_max, 'x') + "\"", "DMM-0202"},
  };
  for (const Case& broken : cases) {
    raw.store(names().report_subject(kKind, broken.device), broken.payload);
    const std::string good = std::string("good-") + broken.device;
    bucket.report(kKind, good, json{{"song", 1}});
    wait_heard(heard, good, json{{"song", 1}});
  }
  for (const Case& broken : cases) {
    INFO(broken.device);
    const Refused refused = refused_on(bucket, names().report_subject(kKind, broken.device));
    CHECK(refused.what == "report");
    CHECK(refused.error_code == broken.code);
    CHECK_FALSE(refused.error.empty());
    CHECK(heard.of(broken.device).empty());
  }
  CHECK(observer.stats().refused == cases.size());
  CHECK(observer.stats().handled == cases.size());

  // A sound report of the same device heals it.
  bucket.report(kKind, "deep", json{{"song", 2}});
  wait_heard(heard, "deep", json{{"song", 2}});
  wait_for("the refusal to be gone", [&] {
    return std::ranges::none_of(bucket.inspect().refused(), [](const Refused& refused) {
      return refused.subject == names().report_subject(kKind, "deep");
    });
  });
}

TEST_CASE("observer: a device in a wrong spelling is parked with the right one",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  observe(bucket, heard.handler());
  Worker worker(bucket);
  RawClient raw(server.port());
  const std::string subject = "dmm.test.report.speaker.living=2froom";
  raw.store(subject, R"({"song":1})");
  const Refused refused = refused_on(bucket, subject);
  CHECK(refused.error_code == "DMM-0207");
  CHECK(refused.error.find("living=2Froom") != std::string::npos);
  bucket.report(kKind, "living/room", json{{"song", 1}});
  wait_heard(heard, "living/room", json{{"song", 1}});
  CHECK(heard.devices() == 1);
}

TEST_CASE("observer: a report that is older by its seq is ignored and counted",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  Observer& observer = observe(bucket, heard.handler());
  Worker worker(bucket);
  const auto report = [](int seq, const char* boot, int song) {
    return json{{"boot", boot}, {"seq", seq}, {"song", song}};
  };
  // One by one, because the stream keeps only the newest of a device.
  const auto send_and_wait = [&](const json& value, std::uint64_t ignored) {
    const std::uint64_t read = observer.stats().reports;
    bucket.report(kKind, "a", value);
    wait_for("the report to be read", [&] {
      const ObserveStats stats = observer.stats();
      return stats.reports > read && stats.handled + stats.stale == stats.reports;
    });
    CHECK(observer.stats().stale == ignored);
  };
  send_and_wait(report(10, "one", 1), 0);
  send_and_wait(report(11, "one", 2), 0);
  send_and_wait(report(9, "one", 3), 1);
  send_and_wait(report(11, "one", 4), 2);
  send_and_wait(report(12, "one", 5), 2);
  send_and_wait(report(1, "two", 6), 2);  // it has started anew
  send_and_wait(report(2, "two", 7), 2);
  const std::vector<json> all = heard.of("a");
  REQUIRE(all.size() == 5);
  CHECK(all.back()["song"] == 7);
  for (const json& one : all) CHECK((one["song"] != 3 && one["song"] != 4));
}

TEST_CASE("observer: a handler that lost a race for the cache is called again",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Bucket rival = open_bucket(server);
  std::atomic<int> calls = 0;
  Observer& observer = observe(bucket, [&](ObserveContext& context, const json& report) {
    json cache = context.matter(thing(context.device()));
    if (++calls == 1) rival.notify(thing("a"), json{{"rival", 1}});
    cache["song"] = report["song"];
    context.notify(thing(context.device()), cache);
  });
  Worker worker(bucket);
  bucket.report(kKind, "a", json{{"song", 5}});
  wait_for("the handler to be done", [&] { return observer.stats().handled == 1; });
  CHECK(calls == 2);
  CHECK(observer.stats().repeated == 1);
  CHECK(observer.stats().failed == 0);
  CHECK(bucket.matter(thing("a")) == json{{"rival", 1}, {"song", 5}});
}

TEST_CASE("observer: a handler that throws is called again and holds back no other device",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  std::atomic<int> left = 3;
  Gate gate;
  Observer& observer = observe(bucket, [&](ObserveContext& context, const json& report) {
    if (context.device() == "bad" && left-- > 0) throw 42;
    if (context.device() == "slow") gate.pass(context.stop_token());
    heard.add(context.device(), report);
  });
  Worker worker(bucket);
  bucket.report(kKind, "bad", json{{"song", 1}});
  bucket.report(kKind, "slow", json{{"song", 1}});
  for (int i = 0; i < 100; ++i) bucket.report(kKind, std::to_string(i), json{{"song", i}});
  for (int i = 0; i < 100; ++i) wait_heard(heard, std::to_string(i), json{{"song", i}});
  wait_heard(heard, "bad", json{{"song", 1}});
  CHECK(heard.of("slow").empty());
  CHECK(observer.stats().failed == 3);
  gate.open();
  wait_heard(heard, "slow", json{{"song", 1}});
}

TEST_CASE("observer: the next report of a device overtakes one whose handler keeps failing",
          "[observer][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  observe(bucket, [&](ObserveContext& context, const json& report) {
    if (report["song"] == 1) throw std::runtime_error("cannot bear this song");
    heard.add(context.device(), report);
  });
  Worker worker(bucket);
  bucket.report(kKind, "a", json{{"song", 1}});
  bucket.report(kKind, "marker", json{{"song", 2}});
  wait_heard(heard, "marker", json{{"song", 2}});
  bucket.report(kKind, "a", json{{"song", 3}});
  wait_heard(heard, "a", json{{"song", 3}});
}

TEST_CASE("observer: reports flow on after the server was killed",
          "[observer][fault][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Heard heard;
  observe(bucket, heard.handler());
  Worker worker(bucket);
  for (int round = 0; round < 3; ++round) {
    bucket.report(kKind, "a", json{{"song", round}});
    wait_heard(heard, "a", json{{"song", round}});
    server.kill();
    server.start();
  }
  bucket.report(kKind, "a", json{{"song", 9}});
  wait_heard(heard, "a", json{{"song", 9}});
}
