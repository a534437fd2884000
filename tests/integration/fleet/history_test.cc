// Goal: whatever a server has lost of a namespace, while workers work or while they do not, is
// noticed and said, and what reports and rows say is told again.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>

#include "fixture.h"
#include "fleet/network.h"
#include "tests/nemesis/proxy.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

// A worker that has devices report what their things shall be.
struct Site {
  testing::NatsServer& server;
  Journal journal;
  Bucket bucket = open_bucket(server);
  WorkStream* work = nullptr;
  std::unique_ptr<Worker> worker;

  explicit Site(
      testing::NatsServer& on,
      Journal::Materialize materialize = [](Context&, json&) { return Outcome::done(); })
      : server(on) {
    work = &bucket.register_type(kType, journal.noting(std::move(materialize)), quick());
    bucket.observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                     const Identity identity = thing(context.device());
                     if (context.matter(identity) != report) context.notify(identity, report);
                   }));
    worker = std::make_unique<Worker>(bucket);
  }
  void report(const std::string& device, const json& value) {
    bucket.report("speaker", device, json{{"value", value}});
  }
  void wait_said(const std::string& stream) {
    wait_for(
        "the loss of " + stream + " to be said",
        [&] {
          return std::ranges::any_of(bucket.inspect().losses(), [&](const HistoryLoss& loss) {
            return loss.stream == stream;
          });
        },
        20s);
  }
};

constexpr auto kHealed = 25s;

}  // namespace

TEST_CASE("history: caches that are lost come back from reports", "[history][fault][integration]") {
  const bool at_work = GENERATE(true, false);
  INFO((at_work ? "while workers work" : "while nobody works"));
  testing::NatsServer server;
  auto site = std::make_unique<Site>(server);
  for (int i = 0; i < 3; ++i) site->report(std::to_string(i), i);
  for (int i = 0; i < 3; ++i) {
    wait_settled_on(site->bucket, thing(std::to_string(i)), json{{"value", i}});
  }
  if (!at_work) site.reset();
  remove_stream(server.port(), names().cache(1).name);
  if (!at_work) site = std::make_unique<Site>(server);
  for (int i = 0; i < 3; ++i) {
    wait_settled_on(site->bucket, thing(std::to_string(i)), json{{"value", i}}, kHealed);
  }
  site->wait_said("cache");
  const auto findings = site->bucket.inspect().diagnose();
  CHECK(std::ranges::any_of(findings, [](const Finding& finding) {
    return finding.subject == "history" && finding.severity == Finding::Severity::warning;
  }));
}

TEST_CASE("history: news that are lost come back from reports", "[history][fault][integration]") {
  const bool at_work = GENERATE(true, false);
  INFO((at_work ? "while workers work" : "while nobody works"));
  testing::NatsServer server;
  std::atomic<bool> broken = false;
  const auto materialize = [&](Context&, json&) {
    if (broken) throw std::runtime_error("no speaker");
    return Outcome::done();
  };
  auto site = std::make_unique<Site>(server, materialize);
  site->report("a", 1);
  wait_settled_on(site->bucket, thing("a"), json{{"value", 1}});
  broken = true;
  site->report("a", 2);
  wait_for("the failure", [&] { return phase(site->bucket, thing("a")) == Phase::failing; });
  if (!at_work) site.reset();
  remove_stream(server.port(), names().work(1).name);
  broken = false;
  if (!at_work) site = std::make_unique<Site>(server, materialize);
  wait_settled_on(site->bucket, thing("a"), json{{"value", 2}}, kHealed);
  site->wait_said("work");
  if (at_work) CHECK(site->work->stats().history_losses >= 1);
}

TEST_CASE("history: reports go on in a stream that was lost", "[history][fault][integration]") {
  testing::NatsServer server;
  Site site(server);
  site.report("a", 1);
  wait_settled_on(site.bucket, thing("a"), json{{"value", 1}});
  remove_stream(server.port(), names().reports(1).name);
  site.wait_said("reports");
  site.report("a", 2);
  wait_settled_on(site.bucket, thing("a"), json{{"value", 2}}, kHealed);
}

TEST_CASE("history: epochs grow on over the loss of the leases", "[history][fault][integration]") {
  const bool at_work = GENERATE(true, false);
  INFO((at_work ? "while workers work" : "while nobody works"));
  testing::NatsServer server;
  auto site = std::make_unique<Site>(server);
  site->report("a", 1);
  wait_settled_on(site->bucket, thing("a"), json{{"value", 1}});
  const std::uint64_t before = site->journal.runs("a").back().epoch;
  if (!at_work) site.reset();
  remove_stream(server.port(), names().leases(1).name);
  if (!at_work) site = std::make_unique<Site>(server);
  site->wait_said("leases");
  const std::size_t runs = site->journal.count("a");
  site->report("a", 2);
  wait_settled_on(site->bucket, thing("a"), json{{"value", 2}}, kHealed);
  REQUIRE(site->journal.count("a") > runs);
  CHECK(site->journal.runs("a").back().epoch > before);
}

TEST_CASE("history: news under sequences that were used before are not passed over",
          "[history][fault][integration]") {
  testing::NatsServer server;
  nemesis::Proxy network({server.port()});
  Bucket outside = open_bucket(server);
  Bucket bucket = open_bucket_at({network.ports()[0]});
  Journal journal;
  WorkStream& work = bucket.register_type(kType, journal.noting(), quick());
  Worker worker(bucket);
  const auto tell = [&](int first, int count, int value) {
    for (int i = first; i < first + count; ++i) {
      outside.notify(thing(std::to_string(i)), json{{"value", value}});
    }
  };
  const auto settle = [&](int first, int count, int value) {
    for (int i = first; i < first + count; ++i) {
      wait_settled_on(outside, thing(std::to_string(i)), json{{"value", value}}, kHealed);
    }
  };
  tell(0, 10, 1);
  settle(0, 10, 1);
  const auto stream = names().work(1).name;
  const testing::TemporaryDirectory older;
  server.stop();
  std::filesystem::copy(files_of(server, stream), older / "work",
                        std::filesystem::copy_options::recursive);
  server.start();
  wait_for("the worker", [&] { return work.stats().holds_lease; });
  tell(0, 10, 2);
  settle(0, 10, 2);
  // The server comes back with what it had before, and is told more than the worker has read
  // before the worker is there again.
  network.set(nemesis::Trouble::refuse);
  server.kill();
  std::filesystem::remove_all(files_of(server, stream));
  std::filesystem::copy(older / "work", files_of(server, stream),
                        std::filesystem::copy_options::recursive);
  server.start();
  tell(100, 15, 3);
  network.set(nemesis::Trouble::none);
  settle(100, 15, 3);
  CHECK(worker.error().empty());
}

TEST_CASE("history: reports under sequences that were used before are not passed over",
          "[history][fault][integration]") {
  const bool at_work = GENERATE(true, false);
  INFO((at_work ? "while workers work" : "while nobody works"));
  testing::NatsServer server;
  nemesis::Proxy network({server.port()});
  Bucket outside = open_bucket(server);
  Journal journal;
  std::unique_ptr<Bucket> bucket;
  std::unique_ptr<Worker> worker;
  const auto begin = [&] {
    bucket = std::make_unique<Bucket>(open_bucket_at({network.ports()[0]}));
    bucket->register_type(kType, journal.noting(), quick());
    bucket->observe("speaker", ReportHandler([](ObserveContext& context, const json& report) {
                      context.notify(thing(context.device()), report);
                    }));
    worker = std::make_unique<Worker>(*bucket);
  };
  const auto report = [&](int first, int count, int value) {
    for (int i = first; i < first + count; ++i) {
      outside.report("speaker", std::to_string(i), json{{"value", value}});
    }
  };
  const auto settle = [&](int first, int count, int value) {
    for (int i = first; i < first + count; ++i) {
      wait_settled_on(outside, thing(std::to_string(i)), json{{"value", value}}, kHealed);
    }
  };
  begin();
  report(0, 10, 1);
  settle(0, 10, 1);
  const auto stream = names().reports(1).name;
  const testing::TemporaryDirectory older;
  server.stop();
  std::filesystem::copy(files_of(server, stream), older / "reports",
                        std::filesystem::copy_options::recursive);
  server.start();
  report(0, 10, 2);
  settle(0, 10, 2);
  if (at_work) {
    network.set(nemesis::Trouble::refuse);
  } else {
    worker.reset();
    bucket.reset();
  }
  server.kill();
  std::filesystem::remove_all(files_of(server, stream));
  std::filesystem::copy(older / "reports", files_of(server, stream),
                        std::filesystem::copy_options::recursive);
  server.start();
  report(100, 15, 3);
  network.set(nemesis::Trouble::none);
  if (!at_work) begin();
  settle(100, 15, 3);
}

TEST_CASE("history: tokens that a crash brought back are deleted without a run",
          "[history][fault][integration]") {
  testing::NatsServer server;
  Bucket outside = open_bucket(server);
  for (int i = 0; i < 20; ++i) outside.notify(thing(std::to_string(i)), json{{"value", i}});
  const auto stream = names().work(1).name;
  const testing::TemporaryDirectory older;
  server.stop();
  std::filesystem::copy(files_of(server, stream), older / "work",
                        std::filesystem::copy_options::recursive);
  server.start();
  Bucket bucket = open_bucket(server);
  Journal journal;
  bucket.register_type(kType, journal.noting([](Context&, json& cache) {
    cache["seen"] = true;
    return Outcome::done();
  }),
                       quick());
  Worker worker(bucket);
  const auto left = [&] {
    try {
      return outside.inspect().streams().front().messages;
    } catch (const Error&) {
      return std::numeric_limits<std::uint64_t>::max();  // not connected again yet
    }
  };
  wait_for(
      "all to be done", [&] { return journal.runs().size() == 20 && left() == 0; }, 20s);
  server.kill();
  std::filesystem::remove_all(files_of(server, stream));
  std::filesystem::copy(older / "work", files_of(server, stream),
                        std::filesystem::copy_options::recursive);
  server.start();
  wait_for(
      "the server to have them again",
      [&] {
        try {
          return ask(server.port(), "STREAM.INFO." + stream)["state"]["last_seq"] >= 20;
        } catch (const std::exception&) {
          return false;
        }
      },
      20s);
  wait_for(
      "them to go", [&] { return left() == 0; }, 20s);
  CHECK(journal.runs().size() == 20);
}
