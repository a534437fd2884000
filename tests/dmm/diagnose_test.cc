#include "dmm/internal/diagnose.h"

#include <catch2/catch.hpp>

#include "dmm/limits.h"

namespace dmm::internal {

namespace {

using Severity = Finding::Severity;
using std::chrono::seconds;

Survey sound_survey(int replicas = 1) {
  Survey survey;
  survey.facts.url = "nats://127.0.0.1:4222";
  survey.facts.version = "2.10.20";
  survey.facts.jetstream = true;
  survey.facts.payload_bytes_max = 1'048'576;
  survey.facts.round_trip = std::chrono::microseconds(300);
  survey.now = std::chrono::system_clock::time_point(seconds(1'000));
  for (const char* name : {"DMM_n_WORK", "KV_dmm_n"}) {
    transport::StreamState state;
    state.name = name;
    state.replicas = replicas;
    survey.streams.push_back({name, state, {}, {}, {}, {}, {}});
  }
  LeaseInfo lease;
  lease.name = "work.player.all";
  lease.epoch = Epoch{2};
  lease.holder = "h";
  lease.last_beat = survey.now;
  survey.leases.push_back(lease);
  return survey;
}

// The findings on a subject.
std::vector<Finding> on(const Survey& survey, const std::string& subject) {
  std::vector<Finding> found;
  for (Finding& finding : diagnose(survey)) {
    if (finding.subject == subject) found.push_back(std::move(finding));
  }
  return found;
}

Finding first_on(const Survey& survey, const std::string& subject) {
  const std::vector<Finding> found = on(survey, subject);
  REQUIRE_FALSE(found.empty());
  return found.front();
}

bool says(const Finding& finding, const std::string& text) {
  INFO(finding.text);
  return finding.text.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("diagnosis: a secret that others can read is told", "[diagnose][unit]") {
  Survey survey = sound_survey();
  CHECK(on(survey, "secrets").empty());
  survey.exposed = {"/etc/dmm/players.creds (mode 0644)"};
  const Finding finding = first_on(survey, "secrets");
  CHECK(finding.severity == Severity::warning);
  CHECK(says(finding, "/etc/dmm/players.creds (mode 0644)"));
  CHECK(finding.remedy.find("chmod 600") != std::string::npos);
}

TEST_CASE("diagnosis: versions are compared by number", "[diagnose][unit]") {
  CHECK(parse_version("2.9.10") == ServerVersion{2, 9, 10});
  CHECK(parse_version("v2.10.0-RC.1") == ServerVersion{2, 10, 0});
  CHECK(*parse_version("2.9.10") < *parse_version("2.9.21"));
  CHECK(*parse_version("2.9.25") < *parse_version("2.10.0"));
  for (const char* text :
       {"", "2", "2.9", "2.9.", "x.9.1", "2..1", "-2.9.1", "2.9.-1", "99999999999.1.1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_version(text));
  }
}

TEST_CASE("diagnosis: whatever is not good has a remedy", "[diagnose][unit]") {
  std::vector<Survey> surveys{Survey{}, sound_survey(), sound_survey(3), sound_survey(2)};
  for (const char* version : {"", "2.8.1", "2.9.10", "2.9.21", "2.11.0"}) {
    for (const int replicas : {1, 3}) {
      surveys.push_back(sound_survey(replicas));
      Survey& survey = surveys.back();
      survey.facts.version = version;
      survey.facts.payload_bytes_max = 1'000;
      survey.facts.storage_bytes_max = 0;
      survey.facts.round_trip = seconds(1);
      survey.facts.jetstream = false;
      survey.leases[0].released = replicas == 3;
      survey.leases[0].last_beat.reset();
      survey.streams[1].state->consumers = 10'000;
      survey.streams[1].state->replicas = 2;
    }
  }
  for (const Survey& survey : surveys) {
    for (const Finding& finding : diagnose(survey)) {
      CAPTURE(finding.subject, finding.text);
      CHECK_FALSE(finding.subject.empty());
      CHECK_FALSE(finding.text.empty());
      CHECK((finding.severity == Severity::good) == finding.remedy.empty());
    }
  }
}

TEST_CASE("diagnosis: a sound system gives no warning", "[diagnose][unit]") {
  for (const int replicas : {1, 3}) {
    for (const Finding& finding : diagnose(sound_survey(replicas))) {
      CAPTURE(finding.subject, finding.text);
      CHECK(finding.severity <= Severity::note);
    }
  }
}

TEST_CASE("diagnosis: what an acknowledgement is worth depends on version and replicas",
          "[diagnose][unit]") {
  Survey survey = sound_survey(1);
  CHECK(first_on(survey, "durability").severity == Severity::note);
  CHECK(says(first_on(survey, "durability"), "2 minutes"));
  survey.facts.version = "2.9.10";
  CHECK(first_on(survey, "durability").severity == Severity::warning);
  CHECK(says(first_on(survey, "durability"), "60 s, and this version has no setting"));
  CHECK(on(survey, "compare-and-set").empty());

  survey = sound_survey(3);
  CHECK(says(first_on(survey, "durability"), "2 of 3 servers"));
  CHECK(on(survey, "compare-and-set").empty());
  survey.facts.version = "2.9.20";
  CHECK(first_on(survey, "compare-and-set").severity == Severity::warning);
  survey.facts.version = "2.9.21";
  CHECK(on(survey, "compare-and-set").empty());
  survey.facts.version.clear();
  CHECK(first_on(survey, "compare-and-set").severity == Severity::warning);
  CHECK(first_on(survey, "server").severity == Severity::note);
}

TEST_CASE("diagnosis: limits of the server are compared with those of dmm", "[diagnose][unit]") {
  Survey survey = sound_survey();
  CHECK(on(survey, "max_payload").empty());
  survey.facts.payload_bytes_max = limits::payload_bytes_max;
  CHECK(first_on(survey, "max_payload").severity == Severity::warning);

  CHECK(first_on(survey, "storage").severity == Severity::good);
  survey.facts.storage_bytes_max = 1'000;
  const auto used = [&](std::uint64_t bytes) {
    survey.facts.storage_bytes = bytes;
    return first_on(survey, "storage").severity;
  };
  CHECK(used(799) == Severity::good);
  CHECK(used(800) == Severity::warning);
  CHECK(used(950) == Severity::failure);
  CHECK(used(5'000) == Severity::failure);
}

TEST_CASE("diagnosis: streams that do not fit each other are told", "[diagnose][unit]") {
  Survey survey = sound_survey(3);
  survey.streams[1].state->replicas = 1;
  CHECK(on(survey, "stream KV_dmm_n").size() == 2);
  CHECK(on(survey, "stream KV_dmm_n")[1].severity == Severity::warning);
  survey = sound_survey();
  survey.streams[0].state->consumers = 200;
  CHECK(on(survey, "stream DMM_n_WORK").size() == 1);
  survey.streams[0].state->consumers = 201;
  CHECK(says(on(survey, "stream DMM_n_WORK").at(1), "201 consumers"));
}

TEST_CASE("diagnosis: a lease is missed when its holder is silent", "[diagnose][unit]") {
  Survey survey = sound_survey();
  const std::string subject = "lease work.player.all";
  CHECK(first_on(survey, subject).severity == Severity::good);
  survey.leases[0].last_beat = survey.now - seconds(6);
  CHECK(first_on(survey, subject).severity == Severity::good);
  survey.leases[0].last_beat = survey.now - seconds(90);
  CHECK(first_on(survey, subject).severity == Severity::warning);
  CHECK(says(first_on(survey, subject), "for 90 s"));
  survey.leases[0].last_beat = survey.now + seconds(90);  // the server's clock is ahead
  CHECK(first_on(survey, subject).severity == Severity::good);
  survey.leases[0].released = true;
  CHECK(first_on(survey, subject).severity == Severity::note);
}

TEST_CASE("diagnosis: clocks that differ are told and by how much", "[diagnose][unit]") {
  using std::chrono::milliseconds;
  Survey survey = sound_survey();
  CHECK(on(survey, "clock").empty());  // nobody said what time it is
  survey.server_ahead = milliseconds(20);
  WorkerInfo worker;
  worker.name = "players";
  worker.host = "rack-7";
  worker.pid = 4711;
  worker.clock_ahead = milliseconds(-30);
  survey.workers = {worker};
  CHECK(first_on(survey, "clock").severity == Severity::good);

  survey.workers[0].clock_ahead = milliseconds(-3'000);
  const Finding late = first_on(survey, "clock");
  CHECK(late.severity == Severity::warning);
  CHECK(says(late, "players at rack-7:4711 is 3020 ms behind that of the server"));
  CHECK_FALSE(late.remedy.empty());

  // An answer that took long says little of a clock.
  survey.workers[0].answered_in = std::chrono::seconds(10);
  CHECK(first_on(survey, "clock").severity == Severity::good);

  // This machine is the one that is wrong.
  survey.server_ahead = milliseconds(60'000);
  survey.workers[0].clock_ahead = milliseconds(60'010);
  survey.workers[0].answered_in = {};
  const Finding here = first_on(survey, "clock");
  CHECK(says(here, "the server is 60000 ms ahead of that of this machine"));
  CHECK(on(survey, "clock").size() == 2);  // and the worker agrees with the server
}

TEST_CASE("diagnosis: workers of other versions and those that wait are told", "[diagnose][unit]") {
  Survey survey = sound_survey();
  CHECK(on(survey, "workers").empty());
  survey.asked_workers = true;
  survey.version = "0.2.0";
  CHECK(first_on(survey, "workers").severity == Severity::note);
  CHECK(says(first_on(survey, "workers"), "nobody"));

  WorkerInfo worker;
  worker.name = "players";
  worker.version = "0.2.0";
  survey.workers = {worker, worker};
  CHECK(first_on(survey, "workers").severity == Severity::good);
  CHECK(says(first_on(survey, "workers"), "2 workers of version 0.2.0"));

  survey.workers[1].version = "0.1.0";
  CHECK(first_on(survey, "workers").severity == Severity::warning);
  CHECK(says(first_on(survey, "workers"), "1 of 0.1.0, 1 of 0.2.0; this tool is 0.2.0"));

  survey.workers.pop_back();
  survey.version = "0.3.0";
  CHECK(first_on(survey, "workers").severity == Severity::note);

  survey.version = "0.2.0";
  survey.workers[0].not_ready = {"type player: waits for its lanes"};
  CHECK(says(first_on(survey, "workers"), "is not ready: type player: waits for its lanes"));
}

TEST_CASE("diagnosis: readers that no longer read are told", "[diagnose][unit]") {
  Survey survey = sound_survey();
  const std::string subject = "readers of DMM_n_WORK";
  CHECK(on(survey, subject).empty());
  StreamSurvey& stream = survey.streams.front();
  stream.readers_before = {{"a", 10, 0, Sequence{5}}, {"b", 10, 0, Sequence{5}}};
  stream.readers = {{"a", 10, 0, Sequence{5}}, {"b", 8, 0, Sequence{7}}};
  const Finding stuck = first_on(survey, subject);
  CHECK(stuck.severity == Severity::warning);
  CHECK(says(stuck, "1 of 2 do not read"));
  // One that waits for more is where it should be.
  stream.readers[0].waiting = 1;
  CHECK(first_on(survey, subject).severity == Severity::good);
  CHECK(says(first_on(survey, subject), "at most 10 messages behind"));
  // One that was not there before is too new to say.
  stream.readers[0].waiting = 0;
  stream.readers_before.clear();
  CHECK(first_on(survey, subject).severity == Severity::good);
  stream.readers_error = "no";
  CHECK(says(first_on(survey, subject), "cannot be listed: no"));
}

}  // namespace dmm::internal
