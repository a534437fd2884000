#include "dmm/wire.h"

#include <catch2/catch.hpp>

#include <set>

#include "dmm/error.h"

namespace dmm::wire {

TEST_CASE("wire: subjects are those of the wire format", "[wire][unit]") {
  const Names names("music");
  CHECK(names.token_subject({"player", "a.b"}) == "dmm.music.work.player.37.a=2Eb");
  CHECK(names.token_subject({"player", ""}) == "dmm.music.work.player.53.=");
  CHECK(names.token_filter() == "dmm.music.work.*.*.*");
  CHECK(names.token_filter("player") == "dmm.music.work.player.*.*");
  CHECK(names.report_subject("player", "x/1") == "dmm.music.report.player.x=2F1");
  CHECK(names.entry_subject("player.1") == "$KV.dmm_music.player.1");
  CHECK(names.status_subject("player.1") == "$KV.dmm_music_status.player.1");
  CHECK(names.lease_subject("work.player.all", Epoch{3}) == "dmm.music.lease.work.player.all.3");
  CHECK(names.entry_key(names.entry_subject("player.1")) == "player.1");
  CHECK(names.status_key(names.status_subject("player.1")) == "player.1");
  CHECK(names.work(1).name == "DMM_music_WORK");
  CHECK(names.reports(1).name == "DMM_music_REPORTS");
  CHECK(names.leases(1).name == "DMM_music_LEASE");
  CHECK(names.cache(3).name == "KV_dmm_music");
  CHECK(names.cache(3).replicas == 3);
  CHECK(names.status(1).name == "KV_dmm_music_status");
}

TEST_CASE("wire: a later generation has other stream names", "[wire][unit]") {
  const Names first("music");
  const Names second("music", 2);
  std::set<std::string> streams;
  for (const Names& names : {first, second}) {
    for (const auto& config :
         {names.work(1), names.cache(1), names.status(1), names.reports(1), names.leases(1)}) {
      CHECK(streams.insert(config.name).second);
    }
    CHECK(names.entry_key(names.entry_subject("player.1")) == "player.1");
    CHECK(names.status_key(names.status_subject("player.1")) == "player.1");
  }
  CHECK_THROWS_AS(Names("music", 0), Error);
}

TEST_CASE("wire: a namespace of other characters is refused", "[wire][unit]") {
  CHECK_NOTHROW(Names(std::string(32, 'n')));
  for (const std::string& ns : {std::string(), std::string(33, 'n'), std::string("a.b"),
                                std::string("a b"), std::string("*"), std::string("\n")}) {
    CAPTURE(ns);
    CHECK_THROWS_AS(Names(ns), Error);
  }
}

TEST_CASE("wire: subjects are taken apart only when they fit", "[wire][unit]") {
  const auto token = split_token("dmm.music.work.player.37.a=2Eb");
  REQUIRE(token);
  CHECK(token->type == "player");
  CHECK(token->lane == "37");
  CHECK(token->id == "a=2Eb");
  const auto report = split_report("dmm.music.report.player.7");
  REQUIRE(report);
  CHECK(report->kind == "player");
  CHECK(report->device == "7");
  for (const char* subject : {"", "dmm", "dmm.music.work.player.37", "dmm.music.work.player.37.",
                              "dmm.music.work.player.37.a.b", "x.music.work.player.37.a",
                              "dmm.music.report.player.37.a"}) {
    CAPTURE(subject);
    CHECK_FALSE(split_token(subject));
  }
  CHECK_FALSE(split_report("dmm.music.report.player"));
  CHECK_FALSE(split_report("dmm.music.report.player.1.2"));
}

TEST_CASE("wire: a done mark covers the tokens up to it of the same stream", "[wire][unit]") {
  const Done done{"2024-01-01T00:00:00.5Z", Sequence{7}};
  const auto read = parse_done(format_done(done));
  REQUIRE(read);
  CHECK(read->created == done.created);
  CHECK(read->covers(done.created, Sequence{7}));
  CHECK_FALSE(read->covers(done.created, Sequence{8}));
  CHECK_FALSE(read->covers("another", Sequence{7}));
  for (const char* text : {"", "7", "x ", "x y", "x -1", "x 1x", "x 99999999999999999999"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_done(text));
  }
}

TEST_CASE("wire: a message without version is of version one", "[wire][unit]") {
  CHECK(format_version({}) == 1);
  CHECK(format_version({{"Dmm-Version", "2"}}) == 2);
  for (const char* text : {"", "x", "0", "-1", "1.5", "99999999999"}) {
    CAPTURE(text);
    CHECK_FALSE(format_version({{"Dmm-Version", text}}));
  }
}

TEST_CASE("wire: unique ids are long and differ", "[wire][unit]") {
  std::set<std::string> ids;
  for (int i = 0; i < 10'000; ++i) {
    const std::string id = unique_id();
    REQUIRE(id.size() == 22);
    REQUIRE(ids.insert(id).second);
  }
}

}  // namespace dmm::wire
