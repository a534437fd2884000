// Goal: whatever is put into the streams by mistake or malice gets a coded error, is refused or put
// aside, and the worker goes on with the rest.

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <mutex>
#include <tuple>

#include "dmm/json.h"
#include "fixture.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

const std::vector<std::string> kStrangeIds{
    "dot.dot",
    "..",
    "star*",
    ">",
    "with a space",
    "a/b/c",
    "",
    "=",
    "=2E",
    std::string(255, 'x'),
    std::string(255, '.'),
    "K\xc3\xbc"
    "che \xf0\x9f\x8e\xb5",
    std::string("nul\0byte", 8),
    "\xff\xfe not utf-8",
    "line\r\nbreak",
    "$KV",
};

Refused refused_token(Bucket& bucket, const std::string& subject) {
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

TEST_CASE("identity: every id of up to 255 bytes works all the way round",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    cache["seen"] = true;
    return Outcome::done();
  }),
                       quick());
  std::mutex mutex;
  std::vector<std::string> devices;
  bucket.observe("speaker", ReportHandler([&](ObserveContext& context, const json&) {
                   const std::lock_guard lock(mutex);
                   devices.push_back(context.device());
                 }));
  Worker worker(bucket);
  for (std::size_t i = 0; i < kStrangeIds.size(); ++i) {
    INFO(printable(kStrangeIds[i]));
    const Identity identity = thing(kStrangeIds[i]);
    bucket.notify(identity, json{{"value", i}});
    wait_settled_on(bucket, identity, json{{"seen", true}, {"value", i}});
    CHECK(bucket.matter(identity) == json{{"seen", true}, {"value", i}});
    CHECK(journal.count(kStrangeIds[i]) == 1);
    bucket.report("speaker", kStrangeIds[i], json{{"song", i}});
  }
  wait_for("all reports", [&] {
    const std::lock_guard lock(mutex);
    return devices.size() == kStrangeIds.size();
  });
  for (const std::string& id : kStrangeIds) CHECK(std::ranges::count(devices, id) == 1);
  CHECK(bucket.inspect().list(kType).size() == kStrangeIds.size());
}

TEST_CASE("identity: what is too long or no name is refused with a code",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  const std::string long_id(256, 'x');
  CHECK(code_of([&] { bucket.notify(thing(long_id), json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.poke(thing(long_id)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.remove(thing(long_id)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.matter(thing(long_id)); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.report("speaker", long_id, json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.notify({"a.b", "x"}, json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.notify({"", "x"}, json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.notify({">", "x"}, json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.report("*", "x", json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { bucket.report(std::string(65, 'k'), "x", json::object()); }) == "DMM-0201");
  CHECK(code_of([&] { Bucket::open("no.such", {}); }) == "DMM-0403");
  CHECK(code_of([&] { Bucket::open("", {}); }) == "DMM-0403");
}

TEST_CASE("value: the limits of size and depth hold at the door", "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  const auto text_of = [](std::size_t bytes) { return json(std::string(bytes - 2, 'x')); };
  const json largest = text_of(limits::payload_bytes_max);
  bucket.notify(thing("a"), largest);
  wait_settled_on(bucket, thing("a"), largest);
  const json too_large = text_of(limits::payload_bytes_max + 1);
  CHECK(code_of([&] { bucket.notify(thing("a"), too_large); }) == "DMM-0202");
  CHECK(code_of([&] { bucket.report("speaker", "a", too_large); }) == "DMM-0202");

  const auto nested = [](std::size_t depth) {
    json value = 1;
    for (std::size_t i = 0; i < depth; ++i) value = json::array({std::move(value)});
    return value;
  };
  bucket.notify(thing("deep"), nested(limits::json_depth_max));
  wait_settled_on(bucket, thing("deep"), nested(limits::json_depth_max));
  CHECK(code_of([&] { bucket.notify(thing("deep"), nested(limits::json_depth_max + 1)); }) ==
        "DMM-0204");
  CHECK(code_of([&] { bucket.report("speaker", "a", nested(limits::json_depth_max + 1)); }) ==
        "DMM-0204");
}

TEST_CASE("value: a run whose result is too large or too deep fails with a code",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context& context, json& cache) {
    if (context.identity().id == "large") cache["x"] = std::string(limits::payload_bytes_max, 'x');
    if (context.identity().id == "deep") {
      for (int i = 0; i < 100; ++i) cache = json::array({std::move(cache)});
    }
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("large"), json{{"value", 1}});
  bucket.notify(thing("deep"), json{{"value", 1}});
  bucket.notify(thing("good"), json{{"value", 1}});
  wait_settled_on(bucket, thing("good"), json{{"value", 1}});
  wait_for("the large one to fail",
           [&] { return look(bucket, thing("large")).error_code == "DMM-0202"; });
  wait_for("the deep one to fail",
           [&] { return look(bucket, thing("deep")).error_code == "DMM-0204"; });
}

TEST_CASE("entry: one that someone overwrote with rubbish counts as missing",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    if (cache.is_null()) cache = json{{"value", "made anew"}};
    return Outcome::done();
  }),
                       quick());
  const std::vector<std::pair<std::string, std::string>> rubbish{
      {"text", "rubbish"},
      {"cut", R"({"value":1,)"},
      {"deep", std::string(200'000, '[')},
      {"bytes", std::string("\xff\x00\xfe", 3)},
      {"utf-8", "{\"value\":\"\xff\"}"},
  };
  RawClient raw(server.port());
  {
    Worker worker(bucket);
    for (const auto& [id, payload] : rubbish) {
      bucket.notify(thing(id), json{{"value", 1}});
      wait_settled_on(bucket, thing(id), json{{"value", 1}});
      wait_tokens_deleted(bucket);
      raw.store(names().entry_subject("thing." + id), payload);
    }
    for (const auto& [id, payload] : rubbish) {
      INFO(id);
      CHECK(bucket.matter(thing(id)).is_null());
      CHECK_FALSE(look(bucket, thing(id)).damage.empty());
      bucket.poke(thing(id));
      wait_settled_on(bucket, thing(id), json{{"value", "made anew"}});
      CHECK(look(bucket, thing(id)).damage.empty());
    }
    wait_tokens_deleted(bucket);
    // And one that is found only by a worker that has never seen the entry.
    for (const auto& [id, payload] : rubbish) {
      raw.store(names().entry_subject("thing." + id), payload);
    }
  }
  Bucket next = open_bucket(server);
  WorkStream& work = next.register_type(kType, journal.noting([](Context&, json& cache) {
    if (cache.is_null()) cache = json{{"value", "made again"}};
    return Outcome::done();
  }),
                                        quick());
  Worker worker(next);
  for (const auto& [id, payload] : rubbish) {
    next.poke(thing(id));
    wait_settled_on(next, thing(id), json{{"value", "made again"}});
  }
  CHECK(work.stats().corrupt >= rubbish.size());
}

TEST_CASE("entry: news win over an entry that someone wrote meanwhile",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  Gate gate;
  bucket.register_type(kType, journal.noting([&](Context& context, json& cache) {
    if (cache.value("value", 0) == 2) gate.pass(context.stop_token());
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  bucket.notify(thing("a"), json{{"value", 1}});
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
  bucket.notify(thing("a"), json{{"value", 2}});
  wait_for("the run", [&] { return journal.count("a") == 2; });
  RawClient raw(server.port());
  raw.store(names().entry_subject("thing.a"), R"({"value":"intruder"})");
  gate.open();
  wait_settled_on(bucket, thing("a"), json{{"value", 2}});
}

TEST_CASE("token: rubbish is parked with its reason and news heal it", "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  RawClient raw(server.port());
  const std::vector<std::tuple<std::string, std::string, std::string>> rubbish{
      {"text", "rubbish", "DMM-0203"},
      {"deep", std::string(200'000, '['), "DMM-0204"},
      {"utf-8", "{\"value\":\"\xff\"}", "DMM-0205"},
      {"large", "\"" + std::string(limits::payload_bytes_max, 'x') + "\"", "DMM-0202"},
  };
  for (const auto& [id, payload, code] : rubbish) {
    raw.store(names().token_subject(thing(id)), payload);
    pass_barrier(bucket, journal);
  }
  raw.store(names().token_subject(thing("newer")), R"({"value":1})",
            {{std::string(wire::kVersion), "99"}});
  pass_barrier(bucket, journal);
  for (const auto& [id, payload, code] : rubbish) {
    INFO(id);
    CHECK(becomes_true([&] { return phase(bucket, thing(id)) == Phase::parked; }, 5s));
    CHECK(look(bucket, thing(id)).error_code == code);
    CHECK(journal.count(id) == 0);
  }
  CHECK(becomes_true([&] { return look(bucket, thing("newer")).error_code == "DMM-0210"; }, 5s));
  CHECK(journal.count("newer") == 0);
  CHECK(work.stats().refused == rubbish.size() + 1);
  for (const auto& [id, payload, code] : rubbish) {
    bucket.notify(thing(id), json{{"value", 2}});
    wait_settled_on(bucket, thing(id), json{{"value", 2}});
  }
}

TEST_CASE("token: a wrong lane or spelling is parked with the right one in the error",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  RawClient raw(server.port());

  const std::uint32_t lane = lane_of_key("thing.a");
  const std::string wrong_lane = fmt::format("dmm.test.work.thing.{}.a", (lane + 1) % 64);
  raw.store(wrong_lane, R"({"value":1})");
  const Refused on_lane = refused_token(bucket, wrong_lane);
  CHECK(on_lane.what == "token");
  CHECK(on_lane.error_code == "DMM-0211");
  CHECK(on_lane.error.find(std::to_string(lane)) != std::string::npos);

  const std::string padded_lane = fmt::format("dmm.test.work.thing.0{}.b", lane_of_key("thing.b"));
  raw.store(padded_lane, R"({"value":1})");
  CHECK(refused_token(bucket, padded_lane).error_code == "DMM-0211");

  const std::string wrong_spelling =
      fmt::format("dmm.test.work.thing.{}.a=2fb", lane_of_key("thing.a=2fb"));
  raw.store(wrong_spelling, R"({"value":1})");
  const Refused on_spelling = refused_token(bucket, wrong_spelling);
  CHECK(on_spelling.error_code == "DMM-0207");
  CHECK(on_spelling.error.find("a=2Fb") != std::string::npos);

  pass_barrier(bucket, journal);
  CHECK(journal.count("a") == 0);
  CHECK(journal.count("b") == 0);
  CHECK(journal.count("a/b") == 0);
  CHECK(work.stats().refused == 3);

  raw.store(fmt::format("dmm.test.work.thing.{}.a", lane), R"({"value":1})");
  wait_settled_on(bucket, thing("a"), json{{"value", 1}});
}

TEST_CASE("token: one of a type that nobody works harms nobody", "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  bucket.notify({"unknown", "a"}, json{{"value", 1}});
  pass_barrier(bucket, journal);
  CHECK(phase(bucket, {"unknown", "a"}) == Phase::waiting);
}

TEST_CASE("headers: what no sound client sends stops nobody and hides nothing",
          "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  std::mutex mutex;
  std::vector<std::string> devices;
  bucket.observe("speaker", ReportHandler([&](ObserveContext& context, const json&) {
                   const std::lock_guard lock(mutex);
                   devices.push_back(context.device());
                 }));
  Worker worker(bucket);
  RawClient raw(server.port());
  RawClient::Headers many;
  for (int i = 0; i < 5'000; ++i) many.emplace_back(fmt::format("H{}", i), "1");
  const std::vector<std::pair<std::string, RawClient::Headers>> bombs{
      {"many", many},
      {"same", RawClient::Headers(10'000, {"A", "b"})},
      {"long", {{"A", std::string(60'000, 'a')}}},
      {"twice", {{std::string(wire::kVersion), "1"}, {std::string(wire::kVersion), "99"}}},
      {"strange", {{"A", "\xff\xfe"}, {"\xc3\xbc", "b"}, {"Status", "404"}}},
      {"false", {{"Nats-Sequence", "999999"}, {"Nats-Subject", "x"}, {"Nats-Time-Stamp", "never"}}},
  };
  for (const auto& [id, headers] : bombs) {
    INFO(id);
    raw.store(names().token_subject(thing(id)), R"({"value":1})", headers);
    wait_settled_on(bucket, thing(id), json{{"value", 1}});
    CHECK(journal.count(id) == 1);
    wait_tokens_deleted(bucket);
    raw.store(names().report_subject("speaker", id), R"({"song":1})", headers);
    raw.store(names().entry_subject("thing." + id), R"({"value":2})", headers);
    CHECK(bucket.matter(thing(id)) == json{{"value", 2}});
  }
  wait_for("all reports", [&] {
    const std::lock_guard lock(mutex);
    return devices.size() == bombs.size();
  });
}

TEST_CASE("headers: one without a value hides no other", "[bad_input][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  RawClient raw(server.port());
  raw.store(names().token_subject(thing("a")), R"({"value":1})",
            {{"A", ""}, {std::string(wire::kDeleted), "1"}, {"B", "2"}});
  wait_for("the run of a tombstone", [&] { return journal.count("a") == 1; });
  CHECK(journal.runs("a").front().deleted);
  raw.store(names().token_subject(thing("b")), R"({"value":1})",
            {{std::string(wire::kDeleted), "1"}, {"A", ""}});
  wait_for("the run of another", [&] { return journal.count("b") == 1; });
  CHECK(journal.runs("b").front().deleted);
}
