// Goal: identities that throw, hang or take their worker with them delay no other one, and end
// parked; one that is notified without end runs one at a time on the newest and delays none either.

#include <fmt/format.h>
#include <signal.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <thread>
#include <utility>

#include "fixture.h"
#include "fleet/network.h"

using namespace dmm;
using namespace dmm::integration;

namespace {

constexpr int kGood = 100;

// Workers that are started again whenever they end, as a supervisor does.
class Fleet final {
 public:
  Fleet(const testing::NatsServer& server, std::filesystem::path journal, std::size_t count,
        std::vector<std::string> options = {})
      : server_(server),
        journal_(std::move(journal)),
        options_({"--timeout-ms", "1000", "--backoff-max-ms", "1000"}),
        workers_(count) {
    options_.insert(options_.end(), options.begin(), options.end());
    look_around();
  }
  /// Ends them in good order, and starts others.
  void restart() {
    for (auto& worker : workers_) {
      worker->process().kill(SIGTERM);
      REQUIRE(worker->process().wait(30s));
      worker.reset();
    }
    look_around();
  }
  /// Starts those that have ended. How many workers ended so far.
  int look_around() {
    for (auto& worker : workers_) {
      if (worker && worker->process().running()) continue;
      if (worker) ++ended_;
      worker = std::make_unique<WorkerProcess>(server_, journal_, options_);
    }
    return ended_;
  }

 private:
  const testing::NatsServer& server_;
  const std::filesystem::path journal_;
  std::vector<std::string> options_;
  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  int ended_ = 0;
};

}  // namespace

TEST_CASE("poison: what throws hangs or crashes keeps no other from its turn",
          "[poison][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const auto journal = files / "journal";
  testing::write_file(files / "sick", "");
  const std::string sick = (files / "sick").string();
  Bucket bucket = open_bucket(server);
  Fleet fleet(server, journal, 2);
  bucket.notify(thing("throws"), json{{"value", 0}, {"fail_while", sick}});
  bucket.notify(thing("hangs"), json{{"value", 0}, {"hold", (files / "never").string()}});
  bucket.notify(thing("crashes"), json{{"value", 0}, {"fault_while", sick}});
  int value = 0;
  const auto round = [&] {
    ++value;
    for (int i = 0; i < kGood; ++i) bucket.notify(thing(std::to_string(i)), json{{"value", value}});
    wait_for(
        "all that are well to settle",
        [&] {
          fleet.look_around();
          return std::ranges::all_of(std::views::iota(0, kGood), [&](int i) {
            return settled_with(bucket, thing(std::to_string(i)), value);
          });
        },
        240s);  // five workers are replaced, and what crashes them runs alone for a while
  };
  wait_for(
      "the one that crashes to be parked",
      [&] {
        round();
        return phase(bucket, thing("crashes")) == Phase::parked;
      },
      120s);
  const int ended = fleet.look_around();
  CHECK(ended >= limits::crashes_max);
  CHECK(ended <= limits::crashes_max + 2);
  const Matter crashes = look(bucket, thing("crashes"));
  CHECK(crashes.error_code == "DMM-0309");
  CHECK(crashes.crashes == limits::crashes_max);
  REQUIRE_FALSE(crashes.failures.empty());
  CHECK(crashes.failures.back().error_code == "DMM-0309");
  CHECK(phase(bucket, thing("throws")) == Phase::failing);
  // Not while it runs again because a worker ended that ran it, too.
  wait_for(
      "what hangs to time out",
      [&] {
        const Matter hangs = look(bucket, thing("hangs"));
        return hangs.phase == Phase::failing && hangs.error_code == "DMM-0302";
      },
      60s);
  round();
  CHECK(fleet.look_around() == ended);
  // Once the cause is mended, a poke is enough.
  std::filesystem::remove(files / "sick");
  for (const std::string id : {"throws", "crashes"}) {
    bucket.poke(thing(id));
    wait_for(id + " to settle", [&] { return settled_with(bucket, thing(id), 0); });
  }
}

TEST_CASE("poison: who shares a run directory knows who crashed a worker and suspects nobody else",
          "[poison][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const testing::TemporaryDirectory run;
  testing::write_file(files / "sick", "");
  Bucket bucket = open_bucket(server);
  constexpr int kHanging = 8;
  // Runs that hang stand beside every crash, and nothing could run alone for them.
  for (int i = 0; i < kHanging; ++i) {
    bucket.notify(thing(fmt::format("hangs-{}", i)),
                  json{{"value", 0}, {"hold", (files / "never").string()}});
  }
  Fleet fleet(server, files / "journal", 1,
              {"--timeout-ms", "60000", "--run-directory", run.path().string()});
  const auto hanging = [&] {
    return std::ranges::count_if(read_runs(files / "journal"), [](const Run& one) {
      return one.id.starts_with("hangs") && one.end_ns == 0;
    });
  };
  wait_for("the runs that hang", [&] { return hanging() == kHanging; });
  bucket.notify(thing("crashes"), json{{"value", 0}, {"fault_while", (files / "sick").string()}});
  int value = 0;
  wait_for(
      "the one that crashes to be parked",
      [&] {
        ++value;
        bucket.notify(thing("well"), json{{"value", value}});
        wait_for(
            "the one that is well to settle",
            [&] {
              fleet.look_around();
              return settled_with(bucket, thing("well"), value);
            },
            60s);
        return phase(bucket, thing("crashes")) == Phase::parked;
      },
      120s);
  CHECK(fleet.look_around() == limits::crashes_max);
  const Matter crashes = look(bucket, thing("crashes"));
  CHECK(crashes.crashes == limits::crashes_max);
  CHECK(crashes.error == "5 workers ended while they ran it, the last by SIGSEGV");
  for (int i = 0; i < kHanging; ++i) {
    CHECK(look(bucket, thing(fmt::format("hangs-{}", i))).crashes <= 1);
  }
}

TEST_CASE("poison: a report that ends whoever handles it is refused and all others are handled",
          "[poison][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const testing::TemporaryDirectory run;
  testing::write_file(files / "sick", "");
  Bucket bucket = open_bucket(server);
  Fleet fleet(server, files / "journal", 2,
              {"--observe", "speaker", "--run-directory", run.path().string()});
  const std::string subject = names().report_subject("speaker", "poison");
  const auto refused = [&]() -> std::uint64_t {
    for (const Refused& one : bucket.inspect().refused()) {
      if (one.subject == subject && one.error_code == "DMM-0310") return one.sequence.value;
    }
    return 0;
  };
  int value = 0;
  const auto report = [&](const char* device, const char* order) {
    bucket.report("speaker", device, json{{"value", ++value}, {order, (files / "sick").string()}});
  };
  const auto wait_refused = [&](std::uint64_t behind) {
    wait_for(
        "the report to be refused",
        [&] {
          report("well", "nothing");
          wait_for(
              "another one to be handled",
              [&] {
                fleet.look_around();
                return settled_with(bucket, thing("well"), value);
              },
              60s);
          return refused() > behind;
        },
        120s);
  };
  report("poison", "fault_while");
  wait_refused(0);
  CHECK(fleet.look_around() == limits::crashes_max);
  // It is remembered, also by the next ones, and for some minutes nobody ends in it any more.
  fleet.restart();
  report("poison", "fault_while");
  wait_refused(refused());
  CHECK(fleet.look_around() == limits::crashes_max);
  CHECK(look(bucket, thing("well")).crashes == 0);
}

TEST_CASE("poison: a report that one worker ended in is handled by the next one and forgiven",
          "[poison][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  const testing::TemporaryDirectory run;
  testing::write_file(files / "sick", "");
  Bucket bucket = open_bucket(server);
  Fleet fleet(server, files / "journal", 2,
              {"--observe", "speaker", "--run-directory", run.path().string()});
  const auto connection = connect_to({server.port()});
  const auto status = connection->open(names().status(1), false);
  const auto ends = [&]() -> json {
    const auto cursor = transport::last(*status, names().status_subject("observer.cursor.speaker"));
    return cursor ? json::parse(cursor->payload).value("ends", json::object()) : json();
  };
  bucket.report("speaker", "a", json{{"value", 1}, {"fault_while", (files / "sick").string()}});
  wait_for("an end", [&] { return ends().contains("a"); });
  std::filesystem::remove(files / "sick");
  wait_for("the report to be handled", [&] {
    fleet.look_around();
    return settled_with(bucket, thing("a"), 1);
  });
  wait_for("the end to be forgiven", [&] { return ends() == json::object(); });
  connection->close();
}

TEST_CASE("poison: a release of which every run ends its worker pauses its type",
          "[poison][fault][integration]") {
  testing::NatsServer server;
  testing::TemporaryDirectory files;
  testing::write_file(files / "sick", "");
  Bucket bucket = open_bucket(server);
  bucket.control().set_policy(kType, {{"pause_at_failing_percent", 30}});
  constexpr int kThings = 60;
  for (int i = 0; i < kThings; ++i) {
    bucket.notify(thing(std::to_string(i)),
                  json{{"value", i}, {"fault_while", (files / "sick").string()}});
  }
  Fleet fleet(server, files / "journal", 4);
  wait_for(
      "the pause",
      [&] {
        fleet.look_around();
        return !bucket.control().pauses().empty();
      },
      180s);
  const Pause pause = bucket.control().pauses().at(0);
  CHECK(pause.by == "dmm");
  CHECK(pause.reason.find("their worker ended") != std::string::npos);
  // Those that had begun before they knew may end still, and so much more for each round of them.
  const int ended = fleet.look_around();
  CHECK(ended >= 20);
  CHECK(ended <= 60);
  // A good release comes, and somebody who has seen that no worker ends any more resumes the type:
  // what the last ones left is put down until their lanes are taken over.
  std::filesystem::remove(files / "sick");
  int last = ended;
  auto since = std::chrono::steady_clock::now();
  wait_for(
      "no worker to end",
      [&] {
        const int now = fleet.look_around();
        if (std::exchange(last, now) != now) since = std::chrono::steady_clock::now();
        return std::chrono::steady_clock::now() - since > 2 * limits::lease_ttl;
      },
      60s);
  bucket.control().resume(pause.scope);
  for (int i = 0; i < kThings; ++i) {
    const std::string id = std::to_string(i);
    wait_for(
        id + " to settle",
        [&] {
          fleet.look_around();
          if (phase(bucket, thing(id)) == Phase::parked) bucket.poke(thing(id));
          return settled_with(bucket, thing(id), i);
        },
        240s);
  }
  CHECK(bucket.control().pauses().empty());
}

TEST_CASE("poison: one that is notified without end runs one at a time and delays no other",
          "[poison][integration]") {
  testing::NatsServer server;
  Bucket bucket = open_bucket(server);
  Journal journal;
  WorkOptions options = quick();
  options.concurrency = 4;
  bucket.register_type(kType, journal.noting([](Context& context, json&) {
    if (context.identity().id == "hot") {
      becomes_true([&] { return context.stop_token().stop_requested(); }, 2ms);
    }
    return Outcome::done();
  }),
                       options);
  Worker worker(bucket);
  std::atomic<int> told = 0;
  std::jthread hot([&](std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::vector<std::pair<Identity, json>> batch;
      for (int i = 0; i < 500; ++i) batch.emplace_back(thing("hot"), json{{"value", ++told}});
      if (!bucket.notify_all(batch).empty()) return;
    }
  });
  wait_for("it to be hot", [&] { return journal.count("hot") >= 10; });
  for (int i = 0; i < 200; ++i) {
    const std::string id = std::to_string(i);
    bucket.notify(thing(id), json{{"value", i}});
    wait_settled_on(bucket, thing(id), json{{"value", i}}, 5s);
  }
  hot.request_stop();
  hot.join();
  const int last = told;
  CHECK(last >= 2'000);
  wait_settled_on(bucket, thing("hot"), json{{"value", last}});
  const std::vector<Run> runs = journal.runs("hot");
  CHECK(most_at_once(runs) == 1);
  CHECK(runs.size() < static_cast<std::size_t>(last) / 4);
  for (std::size_t i = 1; i < runs.size(); ++i) {
    CHECK(runs[i].cache["value"] > runs[i - 1].cache["value"]);
  }
}
