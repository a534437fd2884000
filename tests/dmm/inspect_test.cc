#include "dmm/inspect.h"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "dmm/error.h"
#include "dmm/internal/status.h"
#include "dmm/internal/streams.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm {

namespace {

using std::chrono::system_clock;
using namespace std::chrono_literals;
using testing::kCreated;
using testing::MemoryNamespace;

// A namespace in memory with an inspector on it.
struct Fixture : MemoryNamespace {
  std::unique_ptr<Inspector> inspector = internal::make_inspector(streams);

  Sequence put_token(const Identity& identity, std::string news, transport::Headers headers = {}) {
    return work->put(streams.names.token_subject(identity), std::move(news), std::move(headers));
  }
  Sequence put_entry(const Identity& identity, std::string value, transport::Headers headers = {}) {
    return cache->put(streams.names.entry_subject(key_of(identity)), std::move(value),
                      std::move(headers));
  }
  void put_status(const Identity& identity, const std::string& phase, Sequence token,
                  const std::string& created = kCreated) {
    const internal::Status value{phase, 3,     "DMM-0301", "refused",
                                 1'000, 5'000, created,    token.value};
    status_put(key_of(identity), dump_json(nlohmann::json(value)));
  }
  void status_put(const std::string& key, std::string value) {
    status->put(streams.names.status_subject(key), std::move(value));
  }
  Matter only(bool values = true) {
    const std::vector<Matter> all = inspector->list("", values);
    REQUIRE(all.size() == 1);
    return all[0];
  }
};

transport::Headers done_header(Sequence sequence, const std::string& created = kCreated) {
  return {{std::string(wire::kDone), wire::format_done({created, sequence})}};
}

const Identity kPlayer{"player", "kitchen"};

}  // namespace

TEST_CASE("inspector: parked news are given up and newer ones are not", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, R"({"song":"a"})");
  CHECK_FALSE(f.inspector->drop(kPlayer));
  const Sequence token = f.put_token(kPlayer, R"({"song":"bad"})");
  f.put_status(kPlayer, "failing", token);
  CHECK_FALSE(f.inspector->drop(kPlayer));
  f.put_status(kPlayer, "parked", token);
  const Sequence newer = f.put_token(kPlayer, R"({"song":"good"})");
  CHECK_FALSE(f.inspector->drop(kPlayer));
  f.put_status(kPlayer, "parked", newer);
  CHECK(f.inspector->drop(kPlayer));
  CHECK(f.only().phase == Phase::settled);
  CHECK(f.only().effective == R"({"song":"a"})");
  CHECK_FALSE(f.inspector->drop(kPlayer));
}

TEST_CASE("inspector: the status of a stream that is gone gives up nothing of the one there is",
          "[inspect][unit]") {
  Fixture f;
  const Sequence token = f.put_token(kPlayer, R"({"song":"live"})");
  f.put_status(kPlayer, "parked", token, "2023-01-01T00:00:00Z");
  CHECK_FALSE(f.inspector->drop(kPlayer));
  CHECK(f.work->look(f.streams.names.token_subject(kPlayer)));
}

TEST_CASE("inspector: what was refused is forgotten with its token and with no other",
          "[inspect][unit]") {
  Fixture f;
  const auto refuse = [&](const std::string& what, const std::string& subject, Sequence sequence) {
    const internal::Refusal refusal{what, subject, sequence.value, "DMM-0202", "no JSON", 1'000};
    f.status_put(internal::refusal_key(what, subject), dump_json(nlohmann::json(refusal)));
  };
  const std::string subject = f.streams.names.token_subject(kPlayer);
  const Sequence sound = f.put_token({"player", "sound"}, "{}");
  const Sequence bad = f.put_token(kPlayer, "{");
  // Somebody wrote the sequence of another token.
  refuse("token", subject, sound);
  CHECK(f.inspector->drop(f.inspector->refused().at(0)));
  CHECK(f.work->look(f.streams.names.token_subject({"player", "sound"})));
  CHECK(f.work->look(subject));
  refuse("token", subject, bad);
  CHECK(f.inspector->drop(f.inspector->refused().at(0)));
  CHECK_FALSE(f.work->look(subject));
  CHECK(f.inspector->refused().empty());
  refuse("view", "view.things.player.x", {});
  CHECK_FALSE(f.inspector->drop(f.inspector->refused().at(0)));
}

TEST_CASE("inspector: an entry alone is settled", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, R"({"song":"a"})");
  const Matter matter = f.only();
  CHECK(matter.identity == kPlayer);
  CHECK(matter.phase == Phase::settled);
  CHECK(matter.effective == R"({"song":"a"})");
  CHECK(matter.stored == R"({"song":"a"})");
  CHECK(matter.revision == Sequence{1});
  CHECK(matter.token == Sequence{});
  CHECK(matter.stored_at);
  CHECK_FALSE(matter.notified_at);
  CHECK(matter.damage.empty());
}

TEST_CASE("inspector: a token is waiting until the entry covers it", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, R"({"song":"old"})", done_header(Sequence{9}, "another stream"));
  const Sequence token = f.put_token(kPlayer, R"({"song":"new"})");
  Matter matter = f.only();
  CHECK(matter.phase == Phase::waiting);
  CHECK(matter.effective == R"({"song":"new"})");
  CHECK(matter.stored == R"({"song":"old"})");
  CHECK(matter.token == token);
  CHECK(matter.notified_at);
  CHECK_FALSE(matter.deleted);

  f.put_entry(kPlayer, R"({"song":"new"})", done_header(token));
  matter = f.only();
  CHECK(matter.phase == Phase::settled);
  CHECK(matter.token == Sequence{});
  CHECK(matter.effective == R"({"song":"new"})");

  f.put_token(kPlayer, "");
  CHECK(f.only().phase == Phase::waiting);
  CHECK(f.only().effective == R"({"song":"new"})");
}

TEST_CASE("inspector: a tombstone is told and a removed entry is none", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, "", {{"KV-Operation", "DEL"}});
  CHECK(f.inspector->list("").empty());
  CHECK_FALSE(f.inspector->get(kPlayer));
  const Sequence token = f.put_token(kPlayer, "{}", {{"Dmm-Deleted", "1"}});
  CHECK(f.only().deleted);
  CHECK(f.only().revision == Sequence{});
  CHECK_FALSE(f.only().stored);
  transport::Headers removed = done_header(token);
  removed.emplace_back("KV-Operation", "DEL");
  f.put_entry(kPlayer, "", removed);
  CHECK_FALSE(f.inspector->get(kPlayer)->token);
}

TEST_CASE("inspector: a failure counts for the token that was tried only", "[inspect][unit]") {
  Fixture f;
  const Sequence token = f.put_token(kPlayer, "{}");
  f.put_status(kPlayer, "failing", token);
  Matter matter = f.only();
  CHECK(matter.phase == Phase::failing);
  CHECK(matter.attempts == 3);
  CHECK(matter.error_code == "DMM-0301");
  CHECK(matter.error == "refused");
  CHECK(matter.failed_at == system_clock::time_point(std::chrono::seconds(1)));
  CHECK(matter.next_retry_at == system_clock::time_point(std::chrono::seconds(5)));

  f.put_status(kPlayer, "parked", token);
  CHECK(f.only().phase == Phase::parked);
  f.put_status(kPlayer, "parked", token, "another stream");
  CHECK(f.only().phase == Phase::waiting);
  f.put_status(kPlayer, "parked", token);
  f.put_token(kPlayer, "{}");  // news
  matter = f.only();
  CHECK(matter.phase == Phase::waiting);
  CHECK(matter.attempts == 0);
  CHECK(matter.error.empty());
  f.status_put(key_of(kPlayer), "rubbish");
  CHECK(f.only().phase == Phase::waiting);
}

TEST_CASE("inspector: damage is named and shown as it is", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer,
              "rub\x01"
              "bish");
  Matter matter = f.only();
  CHECK(matter.damage.rfind("DMM-0203: the entry: ", 0) == 0);
  CHECK(matter.effective ==
        "rub\x01"
        "bish");
  CHECK(f.inspector->get(kPlayer)->damage == matter.damage);

  f.put_token(kPlayer, R"({"a":1})", {{"Dmm-View", "v"}});  // to be merged with what is no JSON
  matter = f.only();
  CHECK(matter.damage.rfind("DMM-0203: the entry: ", 0) == 0);
  CHECK(matter.effective == R"({"a":1})");

  f.put_token(kPlayer, std::string(200'000, '['));
  CHECK(f.only().damage.rfind("DMM-0204: the token: ", 0) == 0);
  f.put_token(kPlayer, "{}", {{"Dmm-Version", "2"}});
  CHECK(f.only(false).damage.rfind("DMM-0210: the token has format version 2", 0) == 0);
  f.put_token(kPlayer, "{}", {{"Dmm-Version", "\x1b[2J"}});
  CHECK(f.only().damage.find('\x1b') == std::string::npos);
}

TEST_CASE("inspector: a list is ordered by key and read in one go", "[inspect][unit]") {
  Fixture f;
  std::set<std::string> keys;
  for (int i = 0; i < 300; ++i) {
    const Identity identity{i % 2 == 0 ? "player" : "amplifier", "n" + std::to_string(i)};
    keys.insert(key_of(identity));
    f.put_entry(identity, "{}");
    if (i % 3 == 0) f.put_token(identity, R"({"n":1})");
  }
  f.work->put("dmm.music.work.player.1.a=2eb", "{}");    // another spelling
  f.work->put("dmm.music.work.player.7.kitchen", "{}");  // another lane
  f.cache->put("$KV.dmm_music.stranger", "{}");          // nobody's key
  f.status_put(internal::refusal_key("token", "dmm.music.work.player.7.kitchen"), "{}");
  f.status_put(internal::cursor_key("player"), "{}");
  const std::vector<Matter> all = f.inspector->list("");
  REQUIRE(all.size() == keys.size());
  auto key = keys.begin();
  for (const Matter& matter : all) {
    CHECK(key_of(matter.identity) == *key++);
    CHECK_FALSE(matter.effective);
    CHECK_FALSE(matter.stored);
  }
  CHECK(f.inspector->list("player").size() == 150);
  CHECK(f.inspector->list("nothing").empty());
  CHECK_THROWS_AS(f.inspector->list("a.b"), Error);
  CHECK(f.work->single_reads() + f.cache->single_reads() + f.status->single_reads() == 0);
  CHECK(f.work->scans() == 3);
}

TEST_CASE("inspector: one identity is what the list says of it", "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, R"({"a":1})");
  f.put_status(kPlayer, "failing", f.put_token(kPlayer, R"({"b":2})", {{"Dmm-View", "v"}}));
  const std::optional<Matter> one = f.inspector->get(kPlayer);
  const Matter listed = f.only();
  REQUIRE(one);
  CHECK(one->effective == R"({"a":1,"b":2})");
  CHECK(one->effective == listed.effective);
  CHECK(one->phase == listed.phase);
  CHECK(one->token == listed.token);
  CHECK(one->revision == listed.revision);
  CHECK_FALSE(f.inspector->get({"player", "nobody"}));
  CHECK_THROWS_AS(f.inspector->get({"a b", ""}), Error);
}

TEST_CASE("inspector: what was refused under a long or strange subject is forgotten with its token",
          "[inspect][unit]") {
  Fixture f;
  for (const std::string& id : {std::string(400, 'x'), std::string("=41\xff")}) {
    const std::string subject = "dmm.music.work.player.1." + id;
    const Sequence token = f.work->put(subject, "{}");
    const internal::Refusal refusal{
        "token", printable(subject, 300), token.value, "DMM-0207", "spelling", 1'000};
    f.status_put(internal::refusal_key("token", subject), dump_json(nlohmann::json(refusal)));
    CHECK(f.inspector->drop(f.inspector->refused().at(0)));
    CHECK_FALSE(f.work->look(subject));
    CHECK(f.inspector->refused().empty());
  }
}

TEST_CASE("inspector: a refusal that names a token that can be read does not make it go",
          "[inspect][unit]") {
  Fixture f;
  const std::string subject = f.streams.names.token_subject(kPlayer);
  const Sequence token = f.put_token(kPlayer, R"({"song":"live"})");
  const internal::Refusal refusal{"token", subject, token.value, "DMM-0202", "by a person", 1'000};
  f.status_put(internal::refusal_key("token", subject), dump_json(nlohmann::json(refusal)));
  CHECK(f.inspector->drop(f.inspector->refused().at(0)));
  CHECK(f.work->look(subject));
  CHECK(f.inspector->refused().empty());
}

TEST_CASE("inspector: refused messages are listed with their reason", "[inspect][unit]") {
  Fixture f;
  const std::string subject = "dmm.music.report.player.7";
  const internal::Refusal refusal{"report", subject, 4, "DMM-0203", "at byte 1", 2'000};
  f.status_put(internal::refusal_key("report", subject), dump_json(nlohmann::json(refusal)));
  f.status_put("refused.report.rubbish.x", "no");
  f.put_status(kPlayer, "failing", Sequence{1});
  const std::vector<Refused> all = f.inspector->refused();
  REQUIRE(all.size() == 1);
  CHECK(all[0].what == "report");
  CHECK(all[0].subject == subject);
  CHECK(all[0].sequence == Sequence{4});
  CHECK(all[0].error_code == "DMM-0203");
  CHECK(all[0].at == system_clock::time_point(std::chrono::seconds(2)));
}

TEST_CASE("inspector: reports are listed by kind and device", "[inspect][unit]") {
  Fixture f;
  f.reports->put("dmm.music.report.player.b", "2");
  f.reports->put("dmm.music.report.player.a=2E1", "not json");
  f.reports->put("dmm.music.report.lamp.a=2e1", "3");
  const std::vector<LastReport> players = f.inspector->reports("player");
  REQUIRE(players.size() == 2);
  CHECK(players[0].device == "a.1");
  CHECK(players[0].state == "not json");
  CHECK(players[1].device == "b");
  const std::vector<LastReport> all = f.inspector->reports("");
  REQUIRE(all.size() == 3);
  CHECK(all[0].device == "a=2e1");  // a spelling that is none is shown as it is
}

TEST_CASE("inspector: a lease is that of its newest epoch", "[inspect][unit]") {
  Fixture f;
  const system_clock::time_point taken{std::chrono::seconds(10)};
  const system_clock::time_point beat{std::chrono::seconds(12)};
  const wire::Names& names = f.streams.names;
  f.leases->put(names.lease_subject("work.player.all", Epoch{10}), R"({"holder":"B"})", {}, taken);
  f.leases->put(names.lease_subject("work.player.all", Epoch{9}), R"({"holder":"A"})");
  f.leases->put(names.beat_subject("B"), "{}", {}, beat);
  f.leases->put(names.lease_subject("observe.player", Epoch{1}),
                R"({"holder":"C","released":true})");
  f.leases->put(names.lease_subject("odd", Epoch{1}), R"({"holder":7,"released":"x"})", {}, taken);
  f.leases->put("dmm.music.lease.odd.last", "{}");
  const std::vector<LeaseInfo> all = f.inspector->leases();
  REQUIRE(all.size() == 3);
  CHECK(all[0].name == "observe.player");
  CHECK(all[0].released);
  CHECK_FALSE(all[0].last_beat);
  CHECK(all[1].name == "odd");
  CHECK(all[1].holder.empty());
  CHECK_FALSE(all[1].released);
  CHECK(all[1].last_beat == taken);
  CHECK(all[2].name == "work.player.all");
  CHECK(all[2].epoch == Epoch{10});
  CHECK(all[2].holder == "B");
  CHECK(all[2].last_beat == beat);
}

TEST_CASE("inspector: the lanes of a type are a lease for each worker", "[inspect][lanes][unit]") {
  Fixture f;
  const system_clock::time_point beat{std::chrono::seconds(12)};
  const wire::Names& names = f.streams.names;
  f.leases->put(names.lease_subject("work.player.all", Epoch{3}), R"({"holder":"lanes-player"})");
  f.leases->put(names.lane_subject("player", 0, Epoch{1}), R"({"holder":"A"})", {}, beat);
  f.leases->put(names.lane_subject("player", 1, Epoch{4}), R"({"holder":"A"})", {}, beat);
  f.leases->put(names.lane_subject("player", 2, Epoch{2}), R"({"holder":"B","released":true})");
  f.leases->put(names.seat_subject("player", "A"), R"({"holder":"A"})", {}, beat + 1s);
  f.leases->put(names.seat_subject("player", "C"), R"({"holder":"C"})", {}, beat);
  f.leases->put(names.seat_subject("player", "D"), R"({"holder":"D","released":true})", {}, beat);
  const std::vector<LeaseInfo> all = f.inspector->leases();
  REQUIRE(all.size() == 3);
  for (const LeaseInfo& lease : all) CHECK(lease.name == "work.player");
  CHECK(all[0].released);
  CHECK(all[0].lanes == 1);
  CHECK(all[1].holder == "A");
  CHECK(all[1].lanes == 2);
  CHECK(all[1].epoch == Epoch{4});
  CHECK(all[1].last_beat == beat + 1s);
  CHECK(all[2].holder == "C");  // it stands by
  CHECK(all[2].lanes == 0);
}

TEST_CASE("inspector: a watch gives every change from now on until it is stopped",
          "[inspect][unit]") {
  Fixture f;
  f.put_entry(kPlayer, "before");
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> seen;
  std::jthread watcher([&](const std::stop_token& stop) {
    f.inspector->watch("player", stop, [&](const Change& change) {
      const std::lock_guard lock(mutex);
      seen.push_back(change.what + " " + change.key + " " + change.value);
      changed.notify_one();
    });
  });
  const auto wait_for_lines = [&](std::size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return seen.size() >= count; });
  };
  while (f.work->readers() + f.cache->readers() + f.status->readers() + f.reports->readers() < 4) {
    std::this_thread::yield();
  }

  f.put_token(kPlayer, "1");
  REQUIRE(wait_for_lines(1));
  f.put_entry(kPlayer, "2");
  REQUIRE(wait_for_lines(2));
  f.put_entry(kPlayer, "", {{"KV-Operation", "DEL"}});
  REQUIRE(wait_for_lines(3));
  f.put_token({"lamp", "1"}, "of another type");
  f.status_put(internal::cursor_key("player"), "{}");
  f.put_status(kPlayer, "parked", Sequence{1});
  REQUIRE(wait_for_lines(4));
  f.reports->put("dmm.music.report.player.7", "5");
  REQUIRE(wait_for_lines(5));
  // More than the readers were granted at first: what was visited is granted again.
  for (std::size_t i = 0; i < 2 * limits::read_batch; ++i) {
    f.put_token({"player", std::to_string(i)}, "x");
  }
  REQUIRE(wait_for_lines(5 + 2 * limits::read_batch));
  watcher.request_stop();
  watcher.join();
  CHECK(seen[0] == "token player.kitchen 1");
  CHECK(seen[1] == "stored player.kitchen 2");
  CHECK(seen[2] == "removed player.kitchen ");
  CHECK(seen[3].rfind("status player.kitchen {", 0) == 0);
  CHECK(seen[4] == "report player.7 5");
  CHECK(f.work->readers() == 0);
}

TEST_CASE("inspector: purging leaves nothing of an identity", "[inspect][unit]") {
  Fixture f;
  CHECK_FALSE(f.inspector->purge(kPlayer));
  f.put_entry(kPlayer, "{}");
  const Sequence token = f.put_token(kPlayer, "{}");
  f.put_status(kPlayer, "parked", token);
  f.put_entry({"player", "other"}, "{}");
  CHECK(f.inspector->purge(kPlayer));
  CHECK_FALSE(f.inspector->get(kPlayer));
  CHECK(f.only().identity.id == "other");
  CHECK_FALSE(f.inspector->purge(kPlayer));
  // A server that crashed may bring a deleted message back.
  auto entry = transport::last(*f.cache, f.streams.names.entry_subject(key_of(kPlayer)));
  REQUIRE(entry);
  CHECK(wire::parse_done(*entry->header(wire::kDone))->covers(kCreated, token));
}

TEST_CASE("inspector: a diagnosis tells of every stream even if one is missing",
          "[inspect][unit]") {
  Fixture f;
  transport::ServerFacts facts;
  facts.version = "2.9.10";
  facts.jetstream = true;
  f.transport->tell(facts);
  f.transport->remove(f.status->name());
  std::set<std::string> subjects;
  for (const Finding& finding : f.inspector->diagnose()) {
    subjects.insert(finding.subject);
    if (finding.subject == "stream KV_dmm_music_status") {
      CHECK(finding.severity == Finding::Severity::failure);
      CHECK(finding.text.rfind("DMM-0107", 0) == 0);
      CHECK(finding.remedy.find("dmm init") != std::string::npos);
    }
  }
  for (const char* subject :
       {"server", "jetstream", "durability", "stream DMM_music_WORK", "stream KV_dmm_music",
        "stream KV_dmm_music_status", "stream DMM_music_REPORTS", "stream DMM_music_LEASE"}) {
    CAPTURE(subject);
    CHECK(subjects.count(subject) == 1);
  }
  CHECK(f.inspector->server().version == "2.9.10");
  CHECK_THROWS_AS(f.inspector->streams(), Error);
}

}  // namespace dmm
