// Goal: what the version before has written is understood, a worker of that version beside a new
// one is waited for, and what a newer version has written is refused with a code and keeps nobody
// from work.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>

#include "dmm/internal/streams.h"
#include "dmm/worker/lease.h"
#include "fixture.h"
#include "fleet/network.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// A namespace with a bare client that writes what other versions would.
struct Site {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  RawClient raw{server.port()};
  wire::Names names = integration::names();
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    cache["seen"] = true;
    return Outcome::done();
  }),
                                          quick());
  std::uint64_t put_token(const std::string& id, const std::string& news,
                          const RawClient::Headers& headers = {}) {
    return raw.store(names.token_subject(thing(id)), news, headers);
  }
  std::uint64_t put_entry(const std::string& id, const std::string& value,
                          const RawClient::Headers& headers = {}) {
    return raw.store(names.entry_subject(key_of(thing(id))), value, headers);
  }
  void put_status(const std::string& id, const json& status) {
    raw.store(names.status_subject(key_of(thing(id))), status.dump());
  }
  std::string created() { return bucket.inspect().streams().front().created; }
};

}  // namespace

TEST_CASE("upgrade: tokens entries and statuses of the first form are worked on",
          "[upgrade][integration]") {
  Site site;
  site.put_entry("poke", R"({"value":1})");  // without headers, as other clients write
  site.put_token("poke", "");
  site.put_token("news", R"({"value":2})", {{"Dmm-Version", "1"}});
  const std::uint64_t token = site.put_token("parked", R"({"value":3})");
  // Without the fields that came later.
  site.put_status("parked", {{"phase", "parked"},
                             {"attempts", 4},
                             {"error_code", "DMM-0303"},
                             {"error", "no such song"},
                             {"failed_at", 1'767'225'600'000},
                             {"next_retry_at", 0},
                             {"created", site.created()},
                             {"token", token}});
  Worker worker(site.bucket);
  wait_settled_on(site.bucket, thing("poke"), json{{"seen", true}, {"value", 1}});
  wait_settled_on(site.bucket, thing("news"), json{{"seen", true}, {"value", 2}});
  CHECK(phase(site.bucket, thing("parked")) == Phase::parked);
  const Matter parked = look(site.bucket, thing("parked"));
  CHECK(parked.attempts == 4);
  CHECK(parked.failures.empty());
  CHECK(parked.news == R"({"value":3})");
  site.bucket.poke(thing("parked"));
  wait_settled_on(site.bucket, thing("parked"), json{{"seen", true}, {"value", 3}});
}

TEST_CASE("upgrade: what a newer version wrote is refused and others are worked on",
          "[upgrade][integration]") {
  Site site;
  site.bucket.observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                        context.notify(thing(context.device()), report);
                      }));
  const RawClient::Headers newer{{"Dmm-Version", "2"}};
  Worker worker(site.bucket);
  SECTION("a token") {
    site.put_token("a", R"({"value":1})", newer);
  }
  SECTION("an entry that news come to") {
    site.put_entry("a", R"({"value":0})", newer);
    site.put_token("a", R"({"value":1})");
  }
  SECTION("an entry that is poked") {
    site.put_entry("a", R"({"value":0})", newer);
    site.put_token("a", "");
  }
  wait_for("it to be parked", [&] { return phase(site.bucket, thing("a")) == Phase::parked; });
  CHECK(look(site.bucket, thing("a")).error_code == "DMM-0210");
  CHECK(code_of([&] { site.bucket.matter(thing("a")); }) == "DMM-0210");
  const auto entry = look(site.bucket, thing("a")).stored;
  if (entry) CHECK(*entry == R"({"value":0})");  // not written over
  site.put_token("b", R"({"value":2})");
  wait_settled_on(site.bucket, thing("b"), json{{"seen", true}, {"value", 2}});
  CHECK(worker.error().empty());
}

TEST_CASE("upgrade: a report of a newer version is refused and the next one is not",
          "[upgrade][integration]") {
  Site site;
  site.bucket.observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                        context.notify(thing(context.device()), report);
                      }));
  Worker worker(site.bucket);
  site.raw.store(site.names.report_subject("speaker", "a"), R"({"value":1})",
                 {{"Dmm-Version", "2"}});
  wait_for("the refusal", [&] { return site.bucket.inspect().refused().size() == 1; });
  CHECK(site.bucket.inspect().refused()[0].error_code == "DMM-0210");
  site.bucket.report("speaker", "a", json{{"value", 2}});
  wait_settled_on(site.bucket, thing("a"), json{{"seen", true}, {"value", 2}});
  wait_for("the refusal to go", [&] { return site.bucket.inspect().refused().empty(); });
  CHECK(site.journal.count("a") == 1);
}

namespace {

// A worker of the form with one lease and one with lanes, each of which waits for the other. False
// if one of them lost its lease while it was waited for, as who stands still does, rightly.
bool wait_for_each_other() {
  Site site;
  internal::Streams streams{
      site.names, connect_to({site.server.port()}), {}, {}, {}, {}, {}, Logger(), {}, {}};
  streams.leases = streams.transport->open(site.names.leases(1), false);
  auto before = std::make_unique<worker::Lease>(streams, "work.thing.all", [] {});
  const auto first = before->acquire({});
  REQUIRE(first);
  Worker worker(site.bucket);
  site.put_token("a", R"({"value":1})");
  const bool worked = becomes_true([&] { return site.journal.count("a") > 0; }, 4s);
  const std::size_t lanes = site.work.stats().lanes;
  if (!before->held()) return false;
  CHECK_FALSE(worked);
  CHECK(lanes == 0);
  before.reset();  // it ends in good order
  wait_settled_on(site.bucket, thing("a"), json{{"seen", true}, {"value", 1}});
  CHECK(site.journal.runs("a").back().epoch > first->epoch.value);

  // Rolled back: the one before gets the type when the one with lanes has ended.
  before = std::make_unique<worker::Lease>(streams, "work.thing.all", [] {});
  std::optional<worker::Tenure> again;
  std::atomic<bool> has = false;
  std::jthread waiting([&](std::stop_token stop) {
    again = before->acquire(stop);
    has = again.has_value();
  });
  const std::uint64_t losses = site.work.stats().lease_losses;
  const bool taken = becomes_true([&] { return has.load(); }, 4s);
  // The worker notices a loss at its next beat.
  if (taken && becomes_true([&] { return site.work.stats().lease_losses > losses; }, 10s)) {
    return false;
  }
  CHECK_FALSE(taken);
  worker.stop();
  wait_for("the type", [&] { return has.load(); });
  waiting.join();
  CHECK(again->epoch > first->epoch);
  before.reset();
  streams.transport->close();
  return true;
}

}  // namespace

TEST_CASE("upgrade: a worker of the form with one lease and one with lanes wait for each other",
          "[upgrade][integration]") {
  bool waited = wait_for_each_other();
  for (int i = 1; i < 5 && !waited; ++i) waited = wait_for_each_other();
  CHECK(waited);
}
