// Goal: a stream that lost what it had is noticed once, by those who saw it and by who starts
// later, whichever stream it was.

#include "dmm/internal/history.h"

#include <catch2/catch.hpp>

#include "dmm/internal/streams.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::internal {

namespace {

using testing::MemoryNamespace;
using States = std::map<std::string, transport::StreamState>;

transport::StreamState stands_at(std::uint64_t last, std::string created = "then") {
  transport::StreamState state;
  state.created = std::move(created);
  state.last = Sequence{last};
  return state;
}

// What one process knows.
struct Process {
  const Streams& streams;
  History history;

  std::optional<std::uint64_t> look() {
    history.look(streams);
    return history.losses();
  }
};

HistoryRecord kept(const MemoryNamespace& ns) {
  const auto message = ns.status->look(ns.streams.names.status_subject(kHistoryKey));
  REQUIRE(message);
  const auto record = parse_history(*message);
  REQUIRE(record);
  return *record;
}

}  // namespace

TEST_CASE("history: a stream that grows loses nothing", "[history][unit]") {
  HistoryRecord record;
  CHECK(note_losses(record, {{"work", stands_at(5)}}, 1) == 0);
  CHECK(note_losses(record, {{"work", stands_at(5)}}, 2) == 0);
  CHECK(note_losses(record, {{"work", stands_at(9)}}, 3) == 0);
  CHECK(record.streams.at("work").last == 9);
  CHECK(record.found == 0);
}

TEST_CASE("history: another stream and one that went back are losses with a reason",
          "[history][unit]") {
  HistoryRecord record;
  note_losses(record, {{"work", stands_at(5)}, {"reports", stands_at(7)}}, 1);
  CHECK(note_losses(record, {{"work", stands_at(4)}, {"reports", stands_at(8)}}, 20) == 1);
  CHECK(note_losses(record, {{"reports", stands_at(9, "later")}}, 30) == 1);
  CHECK(record.found == 2);
  CHECK(record.losses == 1);  // reports are no news
  REQUIRE(record.last.size() == 2);
  CHECK(record.last[0].stream == "work");
  CHECK(record.last[0].reason == "it ends at 4, but went to 5");
  CHECK(record.last[0].at == 20);
  CHECK(record.last[1].reason == "it was created again");
  // From here on it is measured by what there is now.
  CHECK(note_losses(record, {{"work", stands_at(4)}, {"reports", stands_at(9, "later")}}, 40) == 0);
}

TEST_CASE("history: epochs go on above those of a lease stream that is lost", "[history][unit]") {
  HistoryRecord record;
  constexpr std::int64_t kAt = 1'767'225'600'000;  // two years after epochs were counted first
  note_losses(record, {{"leases", stands_at(500)}}, kAt);
  CHECK(record.epoch_floor == 0);
  note_losses(record, {{"leases", stands_at(1, "later")}}, kAt);
  CHECK(record.epoch_floor == 2 * 365 * 86'400 + 86'400);
  CHECK(record.losses == 0);
}

TEST_CASE("history: a lease stream that it has not looked at is not known", "[history][unit]") {
  MemoryNamespace ns;
  Process process{ns.streams, {}};
  CHECK_FALSE(process.history.knows_leases(testing::kCreated));
  process.look();
  CHECK(process.history.knows_leases(testing::kCreated));
  ns.leases->lose_history("2025-01-01T00:00:00Z");
  CHECK_FALSE(process.history.knows_leases("2025-01-01T00:00:00Z"));
  process.look();
  CHECK(process.history.knows_leases("2025-01-01T00:00:00Z"));
  CHECK(process.history.epoch_floor() > Epoch());
}

TEST_CASE("history: a stream that does not answer keeps none of the others from being looked at",
          "[history][unit]") {
  MemoryNamespace ns;
  Process process{ns.streams, {}};
  process.look();
  ns.leases->lose_history("2025-01-01T00:00:00Z");
  ns.transport->faults().refuse({.stream = testing::Part::reports, .call = testing::Call::ask});
  process.look();
  CHECK(process.history.epoch_floor() > Epoch());
}

TEST_CASE("history: where a stream stood that another process did not know is no loss of it",
          "[history][unit]") {
  MemoryNamespace ns;
  ns.transport->faults().refuse({.stream = testing::Part::cache, .call = testing::Call::ask});
  Process first{ns.streams, {}};
  CHECK(first.look() == 0);
  ns.transport->faults().clear();
  CHECK(Process{ns.streams, {}}.look() == 0);
  ns.transport->faults().refuse({.stream = testing::Part::cache, .call = testing::Call::ask});
  first.look();  // which reads what the second has written
  ns.transport->faults().clear();
  CHECK(first.look() == 0);
  SECTION("and then it is known") {
    ns.cache->lose_history("2025-01-01T00:00:00Z");
    CHECK(first.look() == 1);
  }
}

TEST_CASE("history: a loss that could not be stored is found once", "[history][unit]") {
  MemoryNamespace ns;
  const std::string subject = ns.streams.names.token_subject({"player", "1"});
  for (int i = 0; i < 9; ++i) ns.work->put(subject, "{}");
  Process process{ns.streams, {}};
  process.look();
  process.history.store(ns.streams);
  const transport::StreamState before = ns.work->state();
  REQUIRE(before.last == Sequence{9});
  ns.work->lose_history(before.created);
  ns.transport->faults().refuse({.stream = testing::Part::status, .call = testing::Call::publish});
  CHECK_THROWS_AS(process.look(), Error);
  CHECK(process.history.losses() == 1);
  CHECK_THROWS_AS(process.look(), Error);
  CHECK(process.history.losses() == 1);
}

TEST_CASE("history: what is no record counts as absent", "[history][unit]") {
  for (const std::string text :
       {"", "1", "[]", R"({"losses":-1})", R"({"found":"x"})", R"({"streams":7})", "{"}) {
    INFO(text);
    transport::Message message;
    message.payload = text;
    CHECK_FALSE(parse_history(message));
  }
}

TEST_CASE("history: a loss is found by each process that works and counted once",
          "[history][unit]") {
  MemoryNamespace ns;
  Process first{ns.streams, {}};
  Process second{ns.streams, {}};
  CHECK_FALSE(first.history.losses());
  CHECK(first.look() == 0);
  CHECK(second.look() == 0);
  ns.cache->lose_history("2025-01-01T00:00:00Z");
  CHECK(first.look() == 1);
  CHECK(second.look() == 1);
  CHECK(first.look() == 1);
  CHECK(kept(ns).found == 1);
  ns.work->lose_history("2025-01-02T00:00:00Z");
  CHECK(second.look() == 2);
  CHECK(first.look() == 2);
}

TEST_CASE("history: a loss while nobody worked is found at the next start", "[history][unit]") {
  MemoryNamespace ns;
  Process{ns.streams, {}}.look();
  SECTION("of news") {
    ns.work->lose_history("2025-01-01T00:00:00Z");
    CHECK(Process{ns.streams, {}}.look() == 1);
  }
  SECTION("of the bucket that the record is in") {
    ns.status->lose_history("2025-01-01T00:00:00Z");
    Process later{ns.streams, {}};
    CHECK(later.look() == 0);
    REQUIRE(kept(ns).last.size() == 1);
    CHECK(kept(ns).last[0].stream == "status");
  }
  SECTION("of the leases, where the copy is") {
    ns.leases->lose_history("2025-01-01T00:00:00Z");
    Process later{ns.streams, {}};
    CHECK(later.look() == 0);
    CHECK(later.history.epoch_floor().value > 0);
    // And who starts after that knows it from the record.
    Process last{ns.streams, {}};
    last.look();
    CHECK(last.history.epoch_floor() == later.history.epoch_floor());
  }
}

TEST_CASE("history: where streams stand at the end of the work is stored", "[history][unit]") {
  MemoryNamespace ns;
  Process process{ns.streams, {}};
  process.look();
  for (int i = 0; i < 9; ++i) ns.reports->put("dmm.music.report.player.1", "{}");
  process.look();  // too soon after the last time to be stored
  CHECK(kept(ns).streams.at("reports").last == 0);
  process.history.store(ns.streams);
  CHECK(kept(ns).streams.at("reports").last == 9);
}

}  // namespace dmm::internal
