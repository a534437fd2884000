// Goal: the run loop keeps its invariants when answers are late, history is lost, the lease goes or
// the work is stopped half-way. Real servers seldom do these at the right moment; streams in memory
// do.

#include "tests/dmm/worker/run_loop_scene.h"

#include <catch2/catch.hpp>

#include "dmm/internal/history.h"
#include "dmm/internal/status.h"
#include "dmm/transport/messenger.h"

namespace dmm::worker {

TEST_CASE("run loop: an answer to an earlier round touches no later one", "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"stored"})");
  // The first round asks for the entry and never hears; what it asked for is answered much later.
  worker.cache->hold(Call::last);
  worker.start({.timeout = 100ms, .backoff_first = 1ms, .backoff_max = 1ms});
  worker.holding = true;
  worker.put_token(R"({"song":"first"})");
  wait_for("the first run", [&] { return worker.runs() == 1; });
  wait_for("its question", [&] { return worker.cache->held(Call::last) == 1; });
  // Someone writes the entry, so that the answer on its way is out of date.
  worker.cache->put(worker.entry_subject(), R"({"song":"of someone else"})");
  wait_for("its time to be over", [&] { return worker.loop->stats().retrying == 1; });
  worker.release();
  wait_for("the next run", [&] { return worker.runs() >= 2; });
  wait_for("its question", [&] { return worker.cache->held(Call::last) >= 2; });
  worker.cache->let_go(Call::last);
  wait_for("the token to go", [&] { return worker.done(); });
  CHECK(worker.entry() == R"({"song":"first"})");
  CHECK(worker.loop->stats().conflicts == 0);
  CHECK(worker.inside_most == 1);
}

TEST_CASE("run loop: history that is lost during a run ends neither the run nor the worker",
          "[run_loop][unit]") {
  Worker worker;
  worker.start({.timeout = 200ms});
  worker.holding = true;
  worker.put_token(R"({"song":"old"})");
  wait_for("the run", [&] { return worker.runs() == 1; });
  worker.work->lose_history("2025-01-01T00:00:00Z");
  worker.put_token(R"({"song":"new"})");
  wait_for("the loss to be seen", [&] { return worker.loop->stats().history_losses == 1; });
  // Past the deadline of the run that belongs to what is lost: its timer must be gone.
  worker.wait_past(400ms);
  CHECK(worker.runs() == 1);  // not beside the one that still runs
  worker.release();
  wait_for("the news of the new stream", [&] { return worker.done(); });
  CHECK(worker.entry() == R"({"song":"new"})");
  CHECK(worker.inside_most == 1);
  const auto stored = worker.cache->look(worker.entry_subject());
  REQUIRE(stored);
  CHECK(std::string(*stored->header(wire::kDone)).find("2025") != std::string::npos);
}

TEST_CASE("run loop: what came before a loss of history is void and what came after is not",
          "[run_loop][unit]") {
  Worker worker;
  worker.start();
  for (int round = 1; round <= 20; ++round) {
    const std::size_t runs = worker.runs();
    worker.holding = true;
    worker.put_token(R"({"song":"void"})");
    wait_for("its run", [&] { return worker.runs() == runs + 1; });
    worker.work->lose_history(std::to_string(2024 + round) + "-01-01T00:00:00Z");
    const std::string news = R"({"song":")" + std::to_string(round) + R"("})";
    worker.put_token(news);
    const auto losses = static_cast<std::uint64_t>(round);
    wait_for("the loss", [&] { return worker.loop->stats().history_losses == losses; });
    worker.release();
    wait_for("the news", [&] { return worker.done() && worker.entry() == news; });
  }
  CHECK(worker.runs() == 40);
}

TEST_CASE("run loop: at shutdown what waits for its entry is given back without a run",
          "[run_loop][unit]") {
  Worker worker;
  worker.cache->hold(Call::last);
  worker.start();
  const Sequence token = worker.put_token("");  // a poke: it needs the entry first
  wait_for("the question", [&] { return worker.cache->held(Call::last) == 1; });
  worker.thread.request_stop();
  worker.wait_past(300ms);  // so that the owner has seen it
  worker.cache->let_go(Call::last);
  worker.thread.join();
  CHECK(worker.runs() == 0);
  REQUIRE(worker.work->look(worker.token_subject()));
  CHECK(worker.work->look(worker.token_subject())->sequence == token);
}

TEST_CASE("run loop: a lease that someone else took is noticed at the next beat",
          "[run_loop][unit]") {
  Worker worker;
  worker.start();
  const Epoch next{2};
  worker.leases->put(worker.streams.names.lease_subject("work.player.all", next),
                     R"({"holder":"someone else"})");
  wait_for("the loss", [&] { return worker.loop->stats().lease_losses == 1; });
  const Sequence token = worker.put_token(R"({"song":"for someone else"})");
  CHECK_FALSE(worker.loop->stats().holds_lease);
  CHECK(worker.runs() == 0);
  CHECK(worker.work->look(worker.token_subject())->sequence == token);
}

TEST_CASE("run loop: a result that is ready after the lease was lost is not stored",
          "[run_loop][unit]") {
  Worker worker;
  worker.start();
  worker.holding = true;
  const Sequence token = worker.put_token(R"({"song":"late"})");
  wait_for("the run", [&] { return worker.runs() == 1; });
  worker.leases->put(worker.streams.names.lease_subject("work.player.all", Epoch{2}),
                     R"({"holder":"someone else"})");
  wait_for("the loss", [&] { return worker.loop->stats().lease_losses == 1; });
  worker.release();
  wait_for("the run to end", [&] { return worker.inside == 0; });
  worker.thread.request_stop();
  worker.thread.join();
  CHECK(worker.entry().empty());
  CHECK(worker.work->look(worker.token_subject())->sequence == token);
}

TEST_CASE("run loop: a run is stopped in time while the owner waits for the server",
          "[run_loop][lanes][unit]") {
  Worker worker;
  const auto& names = worker.streams.names;
  std::optional<Others> beating(std::in_place, worker, std::vector<std::string>{"other"});
  for (std::uint32_t lane = 0; lane < limits::lanes; ++lane) {
    if (lane == lane_of_key(key_of(kPlayer))) continue;
    worker.leases->put(names.lane_subject("player", lane, Epoch{1}), R"({"holder":"other"})");
  }
  std::atomic<bool> stopped = false;
  worker.then = [&](Context& context, nlohmann::json&) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    stopped = !wake.wait_for(lock, context.stop_token(), 10s, [] { return false; }) &&
              context.stop_token().stop_requested();
    return Outcome::done();
  };
  worker.start();
  worker.put_token(R"({"song":"long"})");
  wait_for("the run", [&] { return worker.runs() == 1; });

  testing::Faults& faults = worker.transport->faults();
  faults.drop({.stream = testing::Part::work, .call = Call::ask}, 6s);
  beating.reset();
  worker.leases->put(names.seat_subject("player", "other"),
                     R"({"holder":"other","released":true})");
  wait_for("the owner to ask about the lanes that came", [&] { return faults.struck() > 0; });
  faults.drop({.stream = testing::Part::leases, .call = Call::publish});
  wait_for("the run to be stopped", [&] { return stopped.load(); });
  CHECK(worker.loop->stats().lease_losses == 0);  // the owner did not know yet
  faults.clear();
}

TEST_CASE("run loop: the token of a lane that another worker owns is left alone",
          "[run_loop][lanes][unit]") {
  Worker worker;
  const auto& names = worker.streams.names;
  const std::string other = R"({"holder":"other"})";
  worker.leases->put(names.seat_subject("player", "other"), other);
  worker.leases->put(names.lane_subject("player", lane_of_key(key_of(kPlayer)), Epoch{1}), other);
  const Sequence token = worker.put_token(R"({"song":"of the other"})");
  worker.start();
  wait_for("its share", [&] { return worker.loop->stats().lanes == 32; });
  worker.wait_past(300ms);
  CHECK(worker.runs() == 0);
  CHECK(worker.work->look(worker.token_subject())->sequence == token);

  worker.leases->put(names.seat_subject("player", "other"),
                     R"({"holder":"other","released":true})");
  wait_for("the run", [&] { return worker.done(); });
  CHECK(worker.runs() == 1);
  CHECK(worker.loop->stats().lanes == limits::lanes);
}

TEST_CASE("run loop: a lane that others should have goes when its run has ended",
          "[run_loop][lanes][unit]") {
  Worker worker;
  const auto& names = worker.streams.names;
  worker.start();
  wait_for("all lanes", [&] { return worker.loop->stats().lanes == limits::lanes; });
  worker.holding = true;
  worker.put_token(R"({"song":"long"})");
  wait_for("the run", [&] { return worker.runs() == 1; });
  // So many come, and beat, that even the lane of the run has to go.
  std::vector<std::string> many;
  for (std::size_t i = 0; i < limits::lanes + 1; ++i) many.push_back("0-" + std::to_string(i));
  const Others others(worker, many);
  const auto left = [&](std::size_t lanes) { return worker.loop->stats().lanes == lanes; };
  wait_for("the others to go", [&] { return left(1) && worker.loop->stats().lanes_wanted == 0; });
  worker.wait_past(100ms);  // so that the owner has seen it
  const Sequence newer = worker.put_token(R"({"song":"newer"})");
  worker.release();
  wait_for("the last one to go", [&] { return left(0); });
  CHECK(worker.entry() == R"({"song":"long"})");
  CHECK(worker.runs() == 1);
  CHECK(worker.work->look(worker.token_subject())->sequence == newer);
  const std::uint32_t number = lane_of_key(key_of(kPlayer));
  wait_for("the lane to be free", [&] {
    // On a busy machine it may have been taken more than once.
    for (std::uint64_t epoch = 1; epoch < 20; ++epoch) {
      const auto lane = worker.leases->look(names.lane_subject("player", number, Epoch{epoch}));
      if (lane && read_lease_record(lane->payload).released) return true;
    }
    return false;
  });
}

TEST_CASE("run loop: a lane that leaves waits for a write of a lost history and then goes",
          "[run_loop][lanes][unit]") {
  Worker worker;
  worker.start();
  wait_for("all lanes", [&] { return worker.loop->stats().lanes == limits::lanes; });
  worker.cache->hold(Call::publish);
  worker.put_token(R"({"song":"on its way"})");
  wait_for("the write", [&] { return worker.cache->held(Call::publish) == 1; });
  std::vector<std::string> many;
  for (std::size_t i = 0; i < limits::lanes + 1; ++i) many.push_back("0-" + std::to_string(i));
  const Others others(worker, many);
  const auto left = [&](std::size_t lanes) { return worker.loop->stats().lanes == lanes; };
  wait_for("the others to go", [&] { return left(1) && worker.loop->stats().lanes_wanted == 0; });
  worker.work->lose_history();
  wait_for("the loss to be seen", [&] { return worker.loop->stats().history_losses == 1; });
  worker.wait_past(100ms);
  CHECK(left(1));  // whoever comes next would not expect that write
  worker.cache->let_go(Call::publish);
  wait_for("the last one to go", [&] { return left(0); });
}

TEST_CASE("run loop: behind a loss of history nothing begins before the last write is answered",
          "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"a"})");
  worker.start();
  worker.cache->hold(Call::publish);
  worker.put_token(R"({"song":"b"})");
  wait_for("the write", [&] { return worker.cache->held(Call::publish) == 1; });
  worker.work->lose_history();
  worker.put_token(R"({"song":"a"})");  // as the entry may be still, and would not be written then
  wait_for("the loss to be seen", [&] { return worker.loop->stats().history_losses == 1; });
  worker.wait_past(100ms);
  CHECK(worker.runs() == 1);
  worker.cache->let_go(Call::publish);
  wait_for("the news of the new stream", [&] { return worker.done(); });
  CHECK(worker.entry() == R"({"song":"a"})");
}

TEST_CASE("run loop: an entry that the server loses during a run stays its view's",
          "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"A"})", {{std::string(wire::kView), "v"}});
  worker.start();
  worker.holding = true;
  worker.put_token("");
  wait_for("the run", [&] { return worker.runs() == 1; });
  worker.transport->server().restart({.stream = testing::Part::cache, .messages = 10});
  REQUIRE_FALSE(worker.cache->look(worker.entry_subject()));
  worker.release();
  wait_for("it to be done", [&] { return worker.done(); });
  const auto stored = worker.cache->look(worker.entry_subject());
  REQUIRE(stored);
  CHECK(stored->header(wire::kView) == "v");
}

TEST_CASE("run loop: what was stored without an answer does not run again", "[run_loop][unit]") {
  Worker worker;
  worker.start();
  worker.transport->faults().in_doubt(
      {.stream = testing::Part::cache, .call = Call::publish, .next = 1});
  worker.put_token(R"({"song":"A"})");
  wait_for("it to be done", [&] { return worker.done(); });
  CHECK(worker.runs() == 1);
  CHECK(worker.entry() == R"({"song":"A"})");
}

TEST_CASE("run loop: a tombstone that asks for another run stays one", "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"last"})");
  std::atomic<int> rounds = 0;
  worker.then = [&](Context& context, nlohmann::json&) {
    if (context.deleted() && ++rounds < 3) return Outcome::requeue_after(1ms);
    return Outcome::done();
  };
  worker.start();
  worker.put_token(R"({"song":"last"})", {{std::string(wire::kDeleted), "1"}});
  wait_for("the end of it", [&] { return worker.done() && worker.runs() == 3; });
  for (std::size_t i = 0; i < 3; ++i) CHECK(worker.run(i).deleted);
  const auto entry = worker.cache->look(worker.entry_subject());
  REQUIRE(entry);
  CHECK(wire::is_removed(*entry));
}

TEST_CASE("run loop: news that ask for another run are done only once that is on record",
          "[run_loop][unit]") {
  Worker worker;
  worker.then = [&](Context&, nlohmann::json&) {
    return worker.runs() == 1 ? Outcome::requeue_after(1ms) : Outcome::done();
  };
  worker.start();
  testing::Faults& faults = worker.transport->faults();
  faults.refuse({.stream = testing::Part::work, .call = Call::publish});
  const Sequence token = worker.put_token(R"({"song":"news"})");
  wait_for("the request", [&] { return faults.struck() > 0; });
  // As the next owner finds it, should this worker end now.
  const auto entry = worker.cache->look(worker.entry_subject());
  REQUIRE(entry);
  const auto done = wire::parse_done(entry->header(wire::kDone).value_or(""));
  REQUIRE(done);
  CHECK(done->sequence.value == token.value - 1);
  CHECK(worker.work->look(worker.token_subject())->sequence == token);
  faults.clear();
  wait_for("the end of it", [&] { return worker.done() && worker.runs() == 2; });
}

TEST_CASE("run loop: news that ask for another run leave an entry even if nobody noticed its loss",
          "[run_loop][unit]") {
  Worker worker;
  worker.then = [&](Context&, nlohmann::json&) {
    return worker.runs() == 2 ? Outcome::requeue_after(1ms) : Outcome::done();
  };
  worker.start();
  worker.put_token(R"({"song":"news"})");
  wait_for("the first run", [&] { return worker.done() && worker.runs() == 1; });
  worker.cache->lose_history("2025-01-01T00:00:00Z");
  worker.put_token(R"({"song":"news"})");
  wait_for("the end of it", [&] { return worker.done() && worker.runs() >= 3; });
  for (std::size_t i = 0; i < worker.runs(); ++i)
    CHECK(worker.run(i).cache == R"({"song":"news"})");
  CHECK(worker.entry() == R"({"song":"news"})");
}

TEST_CASE("run loop: a status that a crash of the server brought back or took away is put right",
          "[run_loop][unit]") {
  Worker worker;
  std::atomic<bool> fails = true;
  worker.then = [&](Context&, nlohmann::json&) {
    if (fails) throw std::runtime_error("not yet");
    return Outcome::done();
  };
  worker.start({.backoff_first = 1ms, .backoff_max = 1ms, .attempts_max = 2});
  const std::string subject = worker.streams.names.status_subject(key_of(kPlayer));
  worker.put_token(R"({"song":"no"})");
  const auto is_parked = [&] {
    const auto status = worker.status->look(subject);
    return status && status->payload.find("parked") != std::string::npos;
  };
  wait_for("it to be parked", is_parked);
  testing::MemoryServer server = worker.transport->server();
  server.restart({.stream = testing::Part::status, .messages = 10});
  REQUIRE_FALSE(worker.status->look(subject));
  wait_for("the status again", is_parked);

  const std::string other = worker.streams.names.status_subject("other.a");
  worker.status->put(other, "{}");
  fails = false;
  worker.put_token(R"({"song":"yes"})");
  wait_for("it to be done", [&] { return worker.done() && !worker.status->look(subject); });
  worker.status->put(other, "{}");
  testing::Faults& faults = worker.transport->faults();
  faults.refuse({.stream = testing::Part::status, .call = Call::erase});
  server.restart({.stream = testing::Part::status, .messages = 2});
  CHECK(is_parked());  // as it was when that was stored
  faults.clear();
  wait_for("it to go again", [&] { return !worker.status->look(subject); });
}

TEST_CASE("run loop: what was dated by a clock that is hours ahead waits as long as it was to",
          "[run_loop][unit]") {
  Worker worker;
  worker.start();
  const auto ahead = std::chrono::system_clock::now() + 5h;
  const auto date = std::chrono::duration_cast<std::chrono::milliseconds>(ahead.time_since_epoch());
  worker.put_token("", {{std::string(wire::kNotBefore), std::to_string(date.count())},
                        {std::string(wire::kDelay), "100"}});
  wait_for("the run", [&] { return worker.runs() == 1 && worker.done(); });
}

TEST_CASE("run loop: news begin to run before their entry is read", "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"stored"})");
  worker.cache->hold(Call::last);
  worker.start();
  worker.put_token(R"({"song":"news"})");
  wait_for("the run", [&] { return worker.runs() == 1 && worker.inside == 0; });
  CHECK(worker.entry() == R"({"song":"stored"})");
  worker.cache->let_go(Call::last);
  wait_for("the token to go", [&] { return worker.done(); });
  CHECK(worker.entry() == R"({"song":"news"})");
}

TEST_CASE("run loop: what failed when its token was lost runs again on its entry",
          "[run_loop][unit]") {
  Worker worker;
  worker.cache->put(worker.entry_subject(), R"({"song":"stored"})");
  std::atomic<bool> broken = true;
  worker.then = [&](Context&, nlohmann::json&) {
    if (broken) throw std::runtime_error("no speaker");
    return Outcome::done();
  };
  worker.start({.backoff_first = 1h, .backoff_max = 1h});
  worker.put_token(R"({"song":"lost"})");
  wait_for("the failure to be stored", [&] {
    return worker.status->look(worker.streams.names.status_subject(key_of(kPlayer))).has_value();
  });
  broken = false;
  worker.work->lose_history("2025-01-01T00:00:00Z");
  wait_for("the next run", [&] { return worker.runs() == 2 && worker.done(); });
  CHECK(worker.run(1).cache == R"({"song":"stored"})");
  wait_for("the failure to be forgotten", [&] {
    return !worker.status->look(worker.streams.names.status_subject(key_of(kPlayer)));
  });
}

TEST_CASE("run loop: news behind a token that turns out to be done begin with the first attempt",
          "[run_loop][unit]") {
  Worker worker;
  const Sequence token = worker.put_token(R"({"song":"stored"})");
  worker.cache->put(worker.entry_subject(), R"({"song":"stored"})",
                    {{std::string(wire::kDone), wire::format_done({testing::kCreated, token})}});
  internal::Status left;
  left.phase = "failing";
  left.attempts = 3;
  left.created = testing::kCreated;
  left.token = token.value;
  worker.status->put(worker.streams.names.status_subject(key_of(kPlayer)),
                     dump_json(nlohmann::json(left)));
  std::atomic<int> attempt = 0;
  worker.then = [&](Context& context, nlohmann::json&) {
    attempt = context.attempt();
    return Outcome::done();
  };
  worker.cache->hold(Call::last);
  worker.start();
  wait_for("the question for the entry", [&] { return worker.cache->held(Call::last) == 1; });
  worker.put_token(R"({"song":"news"})");
  wait_for("the news to be seen", [&] { return worker.loop->stats().tokens == 2; });
  worker.cache->let_go(Call::last);
  wait_for("the end of it", [&] { return worker.done(); });
  CHECK(worker.runs() == 1);
  CHECK(attempt == 1);
}

TEST_CASE("run loop: entries in memory are read again when the namespace has lost some",
          "[run_loop][unit]") {
  Worker worker;
  worker.streams.history = std::make_shared<internal::History>();
  worker.streams.history->look(worker.streams);
  worker.start();
  worker.put_token(R"({"song":"A"})");
  wait_for("the first run", [&] { return worker.done(); });
  CHECK(worker.entry() == R"({"song":"A"})");
  worker.cache->lose_history("2025-01-01T00:00:00Z");
  worker.streams.history->look(worker.streams);
  // The owner looks in each turn; the one that is going on may have looked before.
  const std::uint64_t turns = worker.loop->stats().turns;
  wait_for("the owner to look", [&] { return worker.loop->stats().turns >= turns + 2; });
  worker.put_token(R"({"song":"A"})");
  wait_for("the next run", [&] { return worker.done() && worker.runs() == 2; });
  // What the run left as it was has to be written all the same: it is not there any more.
  CHECK(worker.entry() == R"({"song":"A"})");
}

TEST_CASE("run loop: the last failures are kept until a success and what is parked is told",
          "[run_loop][unit]") {
  Worker worker;
  std::mutex mutex;
  std::vector<transport::Note> told;
  const auto listening = worker.transport->messenger()->subscribe(
      worker.streams.names.parked_filter("player"), "", [&](transport::Note note) {
        const std::lock_guard lock(mutex);
        told.push_back(std::move(note));
      });
  worker.then = [&](Context& context, nlohmann::json&) -> Outcome {
    throw std::runtime_error("failure " + std::to_string(context.attempt()));
  };
  constexpr int kAttempts = static_cast<int>(limits::failures_kept) + 3;
  worker.start({.backoff_first = 1ms, .backoff_max = 1ms, .attempts_max = kAttempts});
  const Sequence token = worker.put_token(R"({"song":"A"})");
  wait_for("the event", [&] {
    const std::lock_guard lock(mutex);
    return told.size() == 1;
  });
  CHECK(told[0].subject == "dmm.music.event.parked.player.kitchen");
  const auto stored = worker.status->look(worker.streams.names.status_subject(key_of(kPlayer)));
  REQUIRE(stored);
  CHECK(told[0].header(wire::kRevision) == std::to_string(stored->sequence.value));
  CHECK(told[0].payload == stored->payload);
  const auto status = internal::parse_status<internal::Status>(*stored);
  REQUIRE(status);
  CHECK(status->phase == "parked");
  REQUIRE(status->failures.size() == limits::failures_kept);
  // Parking comes behind the failure of the last attempt.
  CHECK(status->failures.front().attempt == 4);
  CHECK(status->failures.front().error == "failure 4");
  CHECK(status->failures.back().error_code == "DMM-0304");
  CHECK(status->failures.back().token == token.value);
  // News that come are a new beginning, and what was before them is still told.
  worker.then = [&](Context&, nlohmann::json&) { return Outcome::park("no such song"); };
  worker.put_token(R"({"song":"B"})");
  wait_for("the second event", [&] {
    const std::lock_guard lock(mutex);
    return told.size() == 2;
  });
  const auto again = internal::parse_status<internal::Status>(
      *worker.status->look(worker.streams.names.status_subject(key_of(kPlayer))));
  REQUIRE(again);
  CHECK(again->failures.size() == limits::failures_kept);
  CHECK(again->failures.back().error_code == "DMM-0303");
  CHECK(again->failures.front().attempt == 5);
}

TEST_CASE("run loop: news that come while a backlog waits do not wait for all of it",
          "[run_loop][unit]") {
  Worker worker;
  const int backlog = static_cast<int>(limits::identities_ready_max) + 5'000;
  for (int i = 0; i < backlog; ++i) {
    worker.work->put(worker.streams.names.token_subject({"player", std::to_string(i)}), "{}");
  }
  worker.holding = true;
  worker.start({.concurrency = 1});
  wait_for("the first run", [&] { return worker.runs() == 1; });
  worker.put_token(R"({"song":"fresh"})");
  worker.wait_past(200ms);  // it has been read by then
  worker.release();
  wait_for(
      "the fresh one", [&] { return worker.done(); }, 30s);
  CHECK(worker.runs() < 5'000);
  wait_for(
      "all of them", [&] { return worker.runs() >= static_cast<std::size_t>(backlog) + 1; }, 60s);
}

TEST_CASE("run loop: one that has to run alone and hangs keeps the others for a while only",
          "[run_loop][unit]") {
  Worker worker;
  const Sequence token = worker.put_token(R"({"song":"hangs"})");
  worker.status->put(worker.streams.names.status_subject(key_of(kPlayer)),
                     nlohmann::json{{"phase", "failing"},
                                    {"crashes", limits::crashes_shared + 1},
                                    {"created", testing::kCreated},
                                    {"token", token.value}}
                         .dump());
  const Identity other{"player", "attic"};
  worker.work->put(worker.streams.names.token_subject(other), "{}");
  worker.holding = true;
  const auto begun = std::chrono::steady_clock::now();
  worker.start();
  wait_for("the first", [&] { return worker.runs() == 1; });
  CHECK(worker.run(0).id == "kitchen");
  wait_for(
      "the other one", [&] { return worker.runs() == 2; }, limits::alone_max + 5s);
  CHECK(std::chrono::steady_clock::now() - begun >= limits::alone_max);
  CHECK(worker.inside == 2);
  worker.release();
  wait_for("both", [&] { return worker.done() && worker.inside == 0; });
}

TEST_CASE("run loop: nobody waits for a run that is overdue", "[run_loop][unit]") {
  Worker worker;
  // One that has to run alone, at once or when the other one is overdue already.
  const std::chrono::milliseconds later = GENERATE(0ms, 1500ms);
  const Identity suspect{"player", "attic"};
  const Sequence token = worker.work->put(worker.streams.names.token_subject(suspect), "{}");
  const auto due = internal::SystemClock::now().time_since_epoch() + later;
  worker.status->put(
      worker.streams.names.status_subject(key_of(suspect)),
      nlohmann::json{
          {"phase", "failing"},
          {"crashes", limits::crashes_shared + 1},
          {"created", testing::kCreated},
          {"next_retry_at", std::chrono::duration_cast<std::chrono::milliseconds>(due).count()},
          {"token", token.value}}
          .dump());
  worker.put_token("{}");
  worker.holding = true;
  const auto begun = std::chrono::steady_clock::now();
  worker.start({.timeout = 300ms});
  wait_for(
      "both", [&] { return worker.inside == 2; }, limits::alone_max + 5s);
  CHECK(std::chrono::steady_clock::now() - begun < later + limits::alone_wait);
  CHECK(worker.run(0).id == (later == 0ms ? "attic" : "kitchen"));
  worker.release();
}

}  // namespace dmm::worker
