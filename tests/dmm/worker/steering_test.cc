// Goal: what people set for a type is followed at once, and nothing runs that is paused.

#include <catch2/catch.hpp>

#include <fstream>

#include "dmm/internal/control_store.h"
#include "dmm/internal/policy.h"
#include "tests/dmm/worker/run_loop_scene.h"

namespace dmm::worker {

namespace {

// A worker and the control of its namespace.
struct Steered : Worker {
  std::unique_ptr<Control> control = internal::make_control(streams);

  void put(const std::string& id, const std::string& news = R"({"song":"A"})") {
    work->put(streams.names.token_subject({"player", id}), news);
  }
  bool done(const std::string& id) const {
    return !work->look(streams.names.token_subject({"player", id}));
  }
};

}  // namespace

TEST_CASE("policy: names ranges and combinations are checked", "[steering][unit]") {
  const WorkOptions options;
  CHECK(internal::lay_over({}, options).rate == 0);
  const WorkOptions set =
      internal::lay_over({{"rate", 2.5}, {"timeout_s", 0.25}, {"concurrency", 3}}, options);
  CHECK(set.rate == 2.5);
  CHECK(set.timeout == 250ms);
  CHECK(set.concurrency == 3);
  CHECK(set.backoff_max == options.backoff_max);
  for (const Policy& wrong : std::vector<Policy>{
           {{"speed", 1}},
           {{"concurrency", 0}},
           {{"concurrency", 1.5}},
           {{"timeout_s", 0}},
           {{"rate", -1}},
           {{"rate", std::nan("")}},
           {{"rate", limits::rate_least / 2}},
           {{"rate", 1e-300}},
           {{"resync_s", HUGE_VAL}},
           {{"pause_at_failing_percent", 101}},
       }) {
    INFO(wrong.begin()->first);
    CHECK_THROWS_AS(internal::lay_over(wrong, options), Error);
  }
  // What it says of options is what it makes of them.
  const Policy all = internal::policy_of(set);
  CHECK(all.size() == policy_settings().size());
  CHECK(internal::policy_of(internal::lay_over(all, options)) == all);
}

TEST_CASE("policy: a longest wait that is set shortens the first one and drops no other setting",
          "[steering][unit]") {
  const WorkOptions declared;
  const Policy policy{{"rate", 5}, {"backoff_max_s", 0.1}, {"pause_at_failing_percent", 30}};
  const WorkOptions set = internal::lay_over(policy, declared);
  CHECK(set.rate == 5);
  CHECK(set.pause_at_failing == 30);
  CHECK(set.backoff_max == 100ms);
  CHECK(set.backoff_first == 100ms);
  const auto both = internal::lay_over({{"backoff_first_s", 10}, {"backoff_max_s", 1}}, declared);
  CHECK(both.backoff_first == 1s);
}

TEST_CASE("policy: one that cannot be used leaves the last sound one in force",
          "[steering][unit]") {
  const WorkOptions declared;
  const internal::InForce first = internal::in_force(R"({"rate":5})", declared, declared);
  CHECK(first.options.rate == 5);
  CHECK(first.unsound == "");
  for (const char* wrong : {"{", R"({"rate":6,"speed":1})", R"({"rate":-1})"}) {
    const internal::InForce next = internal::in_force(wrong, declared, first.options);
    CHECK(next.options.rate == 5);
    CHECK(next.unsound != "");
  }
  CHECK(internal::in_force("", declared, first.options).options.rate == 0);
}

TEST_CASE("policy: a worker that cannot use what is set is believed", "[steering][unit]") {
  testing::MemoryNamespace ns;
  const auto control = internal::make_control(ns.streams);
  control->set_policy("player", {{"rate", 5}});
  ns.status->put(ns.streams.names.status_subject("work.state.player"),
                 internal::work_state_text({{"rate", 2}}, "of a newer dmm"));
  CHECK(control->types().at(0).unsound == "of a newer dmm");
  CHECK(control->types().at(0).in_force.at("rate") == 2);
  control->set_policy("player", {});
  CHECK(control->types().at(0).unsound == "");
}

TEST_CASE("policy: of two changes at once none is lost", "[steering][unit]") {
  testing::MemoryNamespace ns;
  const auto mine = internal::make_control(ns.streams);
  const auto theirs = internal::make_control(ns.streams);
  int calls = 0;
  const Policy set = mine->change_policy("player", [&](Policy& policy) {
    if (++calls == 1) theirs->change_policy("player", [](Policy& other) { other["rate"] = 5; });
    if (calls == 2) theirs->set_policy("player", {{"timeout_s", 1}});
    if (calls == 3) theirs->set_policy("player", {});
    policy["concurrency"] = calls;
  });
  CHECK(calls == 4);
  CHECK(set == Policy{{"concurrency", 4}});
  const auto add = [](Policy& policy) { policy["rate"] = 5; };
  CHECK(mine->change_policy("player", add) == Policy{{"concurrency", 4}, {"rate", 5}});
  CHECK(mine->types().at(0).set == Policy{{"concurrency", 4}, {"rate", 5}});
  CHECK_THROWS_AS(mine->change_policy("player", [](Policy& policy) { policy["speed"] = 1; }),
                  Error);
  const auto meddle = [&](Policy& policy) {
    theirs->set_policy("player", {{"rate", 1}});
    policy["rate"] = 2;
  };
  CHECK_THROWS_AS(mine->change_policy("player", meddle), Error);
  CHECK(mine->types().at(0).set == Policy{{"rate", 1}});
}

TEST_CASE("policy: the reference tells every setting", "[steering][unit]") {
  std::ifstream file(std::string(DMM_DOCS_DIR) + "/reference/policies.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  for (const PolicySetting& setting : policy_settings()) {
    INFO(setting.name);
    CHECK(page.find("| `" + setting.name + "` |") != std::string::npos);
  }
}

TEST_CASE("policy: rubbish in the bucket is told and does not count", "[steering][unit]") {
  testing::MemoryNamespace ns;
  const auto control = internal::make_control(ns.streams);
  control->set_policy("player", {{"rate", 5}});
  CHECK(control->types().at(0).set == Policy{{"rate", 5}});
  for (const std::string rubbish :
       {"", "{", "[]", "7", R"({"rate":"fast"})", R"({"rate":-1})", R"({"speed":1})"}) {
    ns.status->put(ns.streams.names.status_subject("work.policy.player"), rubbish);
    INFO(rubbish);
    CHECK(control->types().at(0).unsound != "");
  }
  ns.status->put(ns.streams.names.status_subject("work.pause.type.a.b"), "{}");
  ns.status->put(ns.streams.names.status_subject("work.pause.id.player"), "{}");
  ns.status->put(ns.streams.names.status_subject("work.state.player"),
                 R"({"in_force":{"rate":[]}})");
  CHECK(control->pauses().empty());
  CHECK(control->types().at(0).in_force.empty());
  control->set_policy("player", {});
  ns.status->put(ns.streams.names.status_subject("work.pause.type.player"), "rubbish pauses too");
  CHECK(control->pauses().size() == 1);
  CHECK_THROWS_AS(control->pause({"no type", {}}, "", ""), Error);
  CHECK_THROWS_AS(control->pause({"", "id"}, "", ""), Error);
}

TEST_CASE("pace: a rate allows a second's worth and then one at a time", "[steering][unit]") {
  Pace pace;
  pace.set(10, {});
  auto now = Pace::Clock::now();
  int begun = 0;
  for (; pace.wait(now).count() == 0; ++begun) pace.begin("a", now);
  CHECK(begun == 10);
  CHECK(pace.wait(now) > 90ms);
  CHECK(pace.wait(now) <= 101ms);
  now += 101ms;
  CHECK(pace.wait(now).count() == 0);
  pace.begin("a", now);
  CHECK(pace.wait(now).count() > 0);
  pace.set(0, {});
  CHECK(pace.wait(now).count() == 0);
}

TEST_CASE("pace: the least rate is one that a clock can count", "[steering][unit]") {
  for (const double rate : {limits::rate_least, 1e-9, 1e-300, 5e-324}) {
    Pace pace;
    pace.set(rate, {});
    const auto now = Pace::Clock::now();
    CHECK(pace.wait(now).count() == 0);
    pace.begin("a", now);
    CHECK(pace.wait(now) > 15min);
    CHECK(pace.wait(now) <= limits::pace_wait_max);
  }
}

TEST_CASE("pace: an identity waits for its interval and no other does", "[steering][unit]") {
  Pace pace;
  pace.set(0, 100ms);
  const auto now = Pace::Clock::now();
  pace.begin("a", now);
  CHECK(pace.wait("a", now) == 100ms);
  CHECK(pace.wait("a", now + 60ms) == 40ms);
  CHECK(pace.wait("b", now).count() == 0);
  pace.begin("a", now + 100ms);
  pace.begin("b", now + 150ms);
  CHECK(pace.wait("a", now + 150ms) == 50ms);
  CHECK(pace.wait("a", now + 200ms).count() == 0);
}

TEST_CASE("ready queue: what is fresh goes first and starves nothing", "[steering][unit]") {
  ReadyQueue<int> queue;
  for (int i = 0; i < 100; ++i) queue.push(-i - 1, Turn::retrying);
  for (int i = 0; i < 100; ++i) queue.push(i, Turn::fresh);
  int retried = 0;
  int last = -1;
  for (int i = 0; i < 80; ++i) {
    const int item = queue.pop();
    if (item < 0) {
      ++retried;
    } else {
      CHECK(item == ++last);
    }
  }
  CHECK(retried == 10);
  CHECK(queue.size() == 120);
}

TEST_CASE("ready queue: what comes while a backlog waits has every other turn",
          "[steering][unit]") {
  ReadyQueue<int> queue;
  for (int i = 0; i < 1'000; ++i) queue.push(i, Turn::backlog);
  queue.pop();
  for (int i = 0; i < 10; ++i) queue.push(-1, Turn::fresh);
  int fresh = 0;
  for (int i = 0; i < 20; ++i) fresh += queue.pop() == -1 ? 1 : 0;
  CHECK(fresh == 10);
  CHECK(queue.size(Turn::fresh) == 0);
  CHECK(queue.size(Turn::backlog) == queue.size());
}

TEST_CASE("failing share: speaks of enough first runs and forgets old ones", "[steering][unit]") {
  FailingShare share;
  for (std::size_t i = 0; i < FailingShare::kEnough - 1; ++i) share.note(true);
  CHECK_FALSE(share.passes(10));
  share.note(true);
  CHECK(share.passes(99));
  CHECK_FALSE(share.passes(0));
  for (std::size_t i = 0; i < FailingShare::kWindow; ++i) share.note(i % 2 == 0);
  CHECK(share.passes(49));
  CHECK_FALSE(share.passes(50));
}

TEST_CASE("steering: a paused type begins nothing and loses nothing", "[steering][unit]") {
  Steered worker;
  for (const PauseScope& scope : {PauseScope{"player", {}}, PauseScope{}}) {
    worker.control->pause(scope, "maintenance", "me");
    if (!worker.loop) worker.start();  // what was paused before it came
    wait_for("the pause", [&] { return worker.loop->stats().paused; });
    const std::size_t runs = worker.runs();
    worker.put("a");
    worker.put("b");
    worker.wait_past(200ms);
    CHECK(worker.runs() == runs);
    CHECK(worker.control->pauses().at(0).reason == "maintenance");
    CHECK(worker.control->resume(scope));
    CHECK_FALSE(worker.control->resume(scope));
    wait_for("the runs", [&] { return worker.done("a") && worker.done("b"); });
    CHECK(worker.runs() == runs + 2);
  }
}

TEST_CASE("steering: a paused identity waits while others run", "[steering][unit]") {
  Steered worker;
  worker.control->pause({"player", "a b"}, "", "me");
  worker.control->pause({"other", "c"}, "", "me");
  worker.start();
  worker.put("a b", R"({"song":"old"})");
  worker.put("a b", R"({"song":"new"})");
  worker.put("c");
  wait_for("the other", [&] { return worker.done("c"); });
  wait_for("the first to be held", [&] { return worker.loop->stats().held == 1; });
  worker.put("a b", R"({"song":"newest"})");
  worker.wait_past(200ms);
  CHECK(worker.runs() == 1);
  worker.control->resume({"player", "a b"});
  wait_for("the first", [&] { return worker.done("a b"); });
  CHECK(worker.runs() == 2);
  CHECK(worker.run(1).cache == R"({"song":"newest"})");
  CHECK(worker.loop->stats().held == 0);
}

TEST_CASE("steering: a pause that the server lost unnoticed is lifted by whoever resumes",
          "[steering][unit]") {
  Steered worker;
  worker.control->pause({"player", {}}, "", "me");
  worker.start();
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  const auto pause =
      worker.status->look(worker.streams.names.status_subject(internal::pause_key({"player", {}})));
  REQUIRE(pause);
  transport::erase(*worker.status, pause->sequence);
  worker.put("kitchen");
  CHECK_FALSE(worker.control->resume({"player", {}}));
  wait_for("the run", [&] { return worker.done("kitchen"); });
}

TEST_CASE("steering: a pause and a policy survive the loss of their bucket and are set again",
          "[steering][unit]") {
  Steered worker;
  worker.control->set_policy("player", {{"concurrency", 3}});
  worker.control->pause({"player", {}}, "new firmware", "me");
  worker.control->pause({"player", "attic"}, "a ladder is missing", "me");
  worker.start();
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  worker.status->lose_history("2025-01-01T00:00:00Z");
  worker.put("kitchen");
  wait_for("them to be set again", [&] { return worker.control->pauses().size() == 2; });
  CHECK(worker.control->pauses()[0].by == "me");
  wait_for("the policy", [&] {
    const auto types = worker.control->types();
    return types.size() == 1 && types[0].set == Policy{{"concurrency", 3}};
  });
  CHECK(worker.runs() == 0);
  worker.control->resume({"player", {}});
  wait_for("the run", [&] { return worker.done("kitchen"); });
  worker.put("attic");
  worker.wait_past(100ms);
  CHECK_FALSE(worker.done("attic"));
}

TEST_CASE("steering: a policy is followed without a restart", "[steering][unit]") {
  Steered worker;
  worker.start({.concurrency = 1});
  worker.holding = true;
  for (int i = 0; i < 4; ++i) worker.put(std::to_string(i));
  wait_for("one run", [&] { return worker.inside == 1; });
  worker.control->set_policy("player", {{"concurrency", 3}});
  wait_for("three runs", [&] { return worker.inside == 3; });
  wait_for("the worker to say so",
           [&] { return worker.control->types().at(0).in_force["concurrency"] == 3; });
  worker.release();
  wait_for("all", [&] { return worker.loop->stats().succeeded == 4; });
  worker.control->set_policy("player", {{"concurrency", 2}});
  wait_for("fewer", [&] { return worker.control->types().at(0).in_force["concurrency"] == 2; });
  worker.inside_most = 0;
  worker.holding = true;
  for (int i = 0; i < 4; ++i) worker.put(std::to_string(i));
  wait_for("two runs", [&] { return worker.inside == 2; });
  worker.wait_past(100ms);
  CHECK(worker.inside_most == 2);
  worker.release();
  // A policy that cannot be leaves in force what was, and it is said.
  worker.status->put(worker.streams.names.status_subject("work.policy.player"), "{");
  wait_for("it to be said", [&] { return !worker.control->types().at(0).unsound.empty(); });
  CHECK(worker.control->types().at(0).in_force["concurrency"] == 2);
}

TEST_CASE("steering: runs begin at the rate that is set", "[steering][unit]") {
  Steered worker;
  worker.start({.rate = 20});
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 30; ++i) worker.put(std::to_string(i));
  wait_for("all", [&] { return worker.loop->stats().succeeded == 30; });
  // Twenty at once, ten more in half a second.
  CHECK(std::chrono::steady_clock::now() - begun > 450ms);
}

TEST_CASE("steering: one identity keeps its distance", "[steering][unit]") {
  Steered worker;
  worker.start({.identity_interval = 3s});
  const auto begun = std::chrono::steady_clock::now();
  worker.put("a", R"({"n":1})");
  wait_for("the first", [&] { return worker.done("a"); });
  worker.put("a", R"({"n":2})");
  worker.put("b");
  wait_for("the other", [&] { return worker.done("b"); });
  CHECK_FALSE(worker.done("a"));
  worker.put("a", R"({"n":3})");
  wait_for("the next", [&] { return worker.done("a"); });
  CHECK(std::chrono::steady_clock::now() - begun > 2s);
  CHECK(worker.runs() == 3);
}

namespace {

// A stream that has a publish under way until the test lets it fail.
class LostPublish final : public transport::Stream {
 public:
  explicit LostPublish(std::shared_ptr<transport::Stream> stream) : stream_(std::move(stream)) {}
  void fail() { done_(Error(code::in_doubt, "nobody answered")); }

  void publish(transport::Publication, std::chrono::milliseconds,
               transport::Completion<Sequence> done) override {
    done_ = std::move(done);
  }
  void last(std::string subject,
            transport::Completion<std::optional<transport::Message>> done) override {
    stream_->last(std::move(subject), std::move(done));
  }
  void erase(Sequence sequence, transport::Completion<bool> done) override {
    stream_->erase(sequence, std::move(done));
  }
  std::unique_ptr<transport::Reader> read(transport::ReadOptions options,
                                          transport::ReaderSink& sink) override {
    return stream_->read(std::move(options), sink);
  }
  transport::StreamState state() override { return stream_->state(); }
  std::vector<std::string> subjects(std::string_view filter) override {
    return stream_->subjects(filter);
  }
  std::string created() const override { return stream_->created(); }

 private:
  const std::shared_ptr<transport::Stream> stream_;
  transport::Completion<Sequence> done_;
};

}  // namespace

TEST_CASE("steering: a pause that came meanwhile survives the failure of its own",
          "[steering][unit]") {
  testing::MemoryNamespace ns;
  const auto lost = std::make_shared<LostPublish>(ns.status);
  internal::Streams streams = ns.streams;
  streams.status = lost;
  Mailbox mailbox;
  Steering steering(streams, mailbox, "player", [] {});
  const auto run_until = [&](const auto& holds) {
    wait_for("the mailbox", [&] {
      mailbox.run_until(Mailbox::Clock::now());
      return holds();
    });
  };
  steering.start();
  run_until([&] { return steering.known(); });
  steering.pause("too many fail");
  REQUIRE(steering.paused() != nullptr);
  SECTION("nobody else paused it") {
    lost->fail();
    run_until([&] { return steering.paused() == nullptr; });
  }
  SECTION("a person did") {
    internal::make_control(ns.streams)->pause({"player", {}}, "maintenance", "me");
    run_until([&] { return steering.paused() && steering.paused()->by == "me"; });
    lost->fail();
    mailbox.run_until(Mailbox::Clock::now());
    REQUIRE(steering.paused() != nullptr);
    CHECK(steering.paused()->reason == "maintenance");
  }
  steering.stop();
}

TEST_CASE("steering: a type that fails too often pauses itself until someone resumes it",
          "[steering][unit]") {
  Steered worker;
  std::atomic<bool> broken = true;
  worker.then = [&](Context&, nlohmann::json&) {
    if (broken) throw std::runtime_error("a bad release");
    return Outcome::done();
  };
  worker.start(
      {.concurrency = 1, .backoff_first = 1ms, .backoff_max = 1ms, .pause_at_failing = 50});
  for (int i = 0; i < 100; ++i) worker.put(std::to_string(i));
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  worker.wait_past(100ms);
  const auto pauses = worker.control->pauses();
  REQUIRE(pauses.size() == 1);
  CHECK(pauses[0].scope == PauseScope{"player", {}});
  CHECK(pauses[0].by == "dmm");
  CHECK(pauses[0].reason.find("more than 50 %") != std::string::npos);
  // Retries do not count, so at most the fewest first runs that say enough were made, and a few on
  // their way.
  CHECK(worker.loop->stats().retrying < 60);
  broken = false;
  worker.control->resume({"player", {}});
  wait_for("all", [&] { return worker.loop->stats().succeeded == 100; });
  CHECK(worker.control->pauses().empty());
}

TEST_CASE("steering: a type whose news cannot be read pauses itself", "[steering][unit]") {
  Steered worker;
  worker.then = [](Context&, nlohmann::json&) { return Outcome::done(); };
  worker.start({.concurrency = 1, .pause_at_failing = 50});
  for (int i = 0; i < 100; ++i) {
    worker.work->put(worker.streams.names.token_subject({"player", std::to_string(i)}), "{");
  }
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  CHECK(worker.loop->stats().gave_up < 60);
}

TEST_CASE("resync: an identity that was removed since the keys were read is not run",
          "[steering][unit]") {
  testing::MemoryNamespace ns;
  Mailbox mailbox;
  const auto entry = [&](const char* id) {
    return ns.streams.names.entry_subject(key_of({"player", id}));
  };
  const auto token = [&](const char* id) {
    return ns.work->look(ns.streams.names.token_subject({"player", id})).has_value();
  };
  for (const char* id : {"a-gone", "b-removed", "c-kept"}) ns.cache->put(entry(id), "{}");
  Resync resync(ns.streams, mailbox, "player", [](const std::string&) { return true; });
  resync.set(1ms);  // so that all are due at once, in their order
  resync.turn(Resync::Clock::now());
  mailbox.run_until(Resync::Clock::now());
  resync.attend();
  mailbox.run_until(Resync::Clock::now() + 10s);  // the keys
  transport::erase(*ns.cache, ns.cache->look(entry("a-gone"))->sequence);
  ns.cache->put(entry("b-removed"), "", {{std::string(wire::kKvOperation), "DEL"}});
  resync.turn(Resync::Clock::now());
  wait_for("the token", [&] { return token("c-kept"); });
  CHECK_FALSE(token("a-gone"));
  CHECK_FALSE(token("b-removed"));
  wait_for("it to be counted", [&] { return resync.told() == 1; });
}

TEST_CASE("resync: what the server did not do is told again a second later", "[steering][unit]") {
  testing::MemoryNamespace ns;
  Mailbox mailbox;
  Resync resync(ns.streams, mailbox, "player", [](const std::string&) { return true; });
  const auto call = GENERATE(testing::Call::last, testing::Call::publish);
  ns.cache->put(ns.streams.names.entry_subject("player.a"), "{}");
  const auto token = [&] {
    return ns.work->look(ns.streams.names.token_subject({"player", "a"})).has_value();
  };
  auto now = Resync::Clock::now();
  ns.transport->faults().refuse({.call = call, .next = 1});
  resync.tell("player.a");
  wait_for("the failure", [&] {
    resync.turn(now);
    return ns.transport->faults().struck() == 1;
  });
  CHECK_FALSE(token());
  // Also where no interval is set: what a status without its token tells is told so, too.
  wait_for("the token", [&] {
    resync.turn(now += 100ms);
    return token();
  });
}

TEST_CASE("steering: resync runs every identity once in each interval", "[steering][unit]") {
  Steered worker;
  for (int i = 0; i < 20; ++i) {
    worker.cache->put(worker.streams.names.entry_subject("player." + std::to_string(i)),
                      R"({"song":"A"})");
  }
  worker.cache->put(worker.streams.names.entry_subject("other.x"), "{}");
  worker.start({.resync = 1s});
  wait_for(
      "three rounds", [&] { return worker.loop->stats().resynced >= 60; }, 10s);
  wait_for("their runs", [&] { return worker.runs() >= 60; });
  std::map<std::string, int> runs;
  for (std::size_t i = 0; i < 60; ++i) ++runs[worker.run(i).id];
  CHECK(runs.size() == 20);
  for (const auto& [id, count] : runs) {
    CHECK(count >= 2);
    CHECK(count <= 4);
  }
  // A token that waits is left alone.
  worker.control->pause({"player", {}}, "", "me");
  wait_for("the pause", [&] { return worker.loop->stats().paused; });
  const Sequence token = worker.put_token(R"({"song":"news"})");
  worker.wait_past(1500ms);
  CHECK(worker.work->look(worker.token_subject())->sequence == token);
  worker.control->set_policy("player", {{"resync_s", 0}});
  worker.control->resume({"player", {}});
  wait_for("the news", [&] { return worker.done("kitchen"); });
}

}  // namespace dmm::worker
