#include "dmm/worker/lane_table.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "dmm/testing/wait_for.h"

namespace dmm::worker {

using namespace std::chrono_literals;

namespace {

// A table of the worker "me" and what it is told.
struct Scene {
  LaneTable table{"player", "me", 3s};
  LaneTable::Clock::time_point now{};
  std::uint64_t sequence = 0;

  transport::Message message(std::string text) {
    transport::Message message;
    message.payload = std::move(text);
    message.sequence = Sequence{++sequence};
    return message;
  }
  void beat(const std::string& holder) {
    table.take("seat.player." + holder, message(to_text({holder})), now);
  }
  void leave(const std::string& holder) {
    table.take("seat.player." + holder, message(to_text({holder, true})), now);
  }
  void lane(std::uint32_t number, std::uint64_t epoch, const LeaseRecord& record) {
    table.take(fmt::format("work.player.{}.{}", number, epoch), message(to_text(record)), now);
  }
  void all_lanes_to(const std::string& holder) {
    for (std::uint32_t i = 0; i < limits::lanes; ++i) lane(i, 1, {holder});
  }
  std::optional<LaneTable::Offer> offer(std::uint32_t number) const {
    const auto offers = table.offers();
    const auto found = std::ranges::find(offers, number, &LaneTable::Offer::lane);
    if (found == offers.end()) return std::nullopt;
    return *found;
  }
};

}  // namespace

TEST_CASE("lane table: shares of all workers add up to all lanes", "[lanes][unit]") {
  for (const std::size_t workers : {1u, 2u, 3u, 7u, 63u, 64u, 65u, 200u}) {
    std::size_t sum = 0;
    std::set<std::size_t> sizes;
    for (std::size_t me = 0; me < workers; ++me) {
      LaneTable table("player", fmt::format("w{:03}", me), 3s);
      transport::Message message;
      message.sequence = Sequence{1};
      for (std::size_t other = 0; other < workers; ++other) {
        table.take(fmt::format("seat.player.w{:03}", other), message, {});
      }
      sum += table.share({});
      sizes.insert(table.share({}));
    }
    INFO(workers);
    CHECK(sum == limits::lanes);
    CHECK(*sizes.rbegin() - *sizes.begin() <= 1);
  }
}

TEST_CASE("lane table: a silent holder keeps its lanes until the server was asked",
          "[lanes][unit]") {
  Scene scene;
  scene.beat("other");
  scene.all_lanes_to("other");
  CHECK(scene.table.offers().empty());
  scene.now += 2900ms;
  CHECK(scene.table.suspects(scene.now).empty());
  scene.now += 200ms;
  const auto suspects = scene.table.suspects(scene.now);
  REQUIRE(suspects.size() == 1);
  CHECK(suspects[0] == "other");
  CHECK(scene.table.offers().empty());

  SECTION("it beat, and only the reader lagged") {
    scene.beat("other");
    CHECK_FALSE(scene.table.confirm("other", scene.now));
    CHECK(scene.table.suspects(scene.now).empty());
    CHECK(scene.table.offers().empty());
    CHECK(scene.table.members(scene.now) == 2);
  }
  SECTION("it did not") {
    CHECK(scene.table.confirm("other", scene.now));
    REQUIRE(scene.table.offers().size() == limits::lanes);
    CHECK(scene.offer(5)->epoch == Epoch{2});
    CHECK_FALSE(scene.offer(5)->settled);
    CHECK(scene.table.share(scene.now) == limits::lanes);
  }
  SECTION("an answer from before the end of the TTL proves nothing") {
    CHECK_FALSE(scene.table.confirm("other", scene.now - 1s));
    CHECK(scene.table.offers().empty());
  }
  SECTION("another worker was there first and said that it is gone") {
    scene.leave("other");
    CHECK_FALSE(scene.table.confirm("other", scene.now));
    CHECK(scene.table.offers().size() == limits::lanes);
  }
}

TEST_CASE("lane table: a holder that was dead and takes an epoch lives again", "[lanes][unit]") {
  Scene scene;
  scene.beat("other");
  scene.all_lanes_to("other");
  scene.now += 4s;
  scene.table.confirm(scene.table.suspects(scene.now).at(0), scene.now);
  REQUIRE(scene.offer(5));
  // Its beat came first, but another beat took the place of that one and is read later.
  scene.lane(5, 2, {"other"});
  CHECK_FALSE(scene.offer(5));
  CHECK(scene.table.suspects(scene.now).empty());
}

TEST_CASE("lane table: a lane that was released in good order is settled", "[lanes][unit]") {
  Scene scene;
  scene.beat("other");
  scene.lane(3, 7, {"other", true});
  REQUIRE(scene.offer(3));
  CHECK(scene.offer(3)->epoch == Epoch{8});
  CHECK(scene.offer(3)->settled);
  scene.lane(4, 7, {"other", true, true});
  CHECK_FALSE(scene.offer(4)->settled);  // one before it crashed, and not all of that is done
}

TEST_CASE("lane table: a lane under its own name is offered to a worker in any case",
          "[lanes][unit]") {
  Scene scene;
  scene.beat("me");
  scene.lane(3, 2, {"me"});
  REQUIRE(scene.offer(3));
  CHECK(scene.offer(3)->own);
  scene.table.note_said(3, Epoch{2}, {"me", true, true, "before"});
  CHECK_FALSE(scene.offer(3)->own);
  CHECK_FALSE(scene.offer(3)->settled);
  CHECK(scene.table.words_of(3) == "before");
}

TEST_CASE("lane table: who left counts no more and its lanes are free", "[lanes][unit]") {
  Scene scene;
  scene.beat("other");
  scene.lane(3, 1, {"other"});
  CHECK(scene.table.members(scene.now) == 2);
  scene.leave("other");
  CHECK(scene.table.members(scene.now) == 1);
  CHECK(scene.offer(3));
}

TEST_CASE("lane table: epochs come after those of workers that leased the type as a whole",
          "[lanes][unit]") {
  Scene scene;
  scene.table.set_floor(Epoch{57});
  CHECK(scene.offer(0)->epoch == Epoch{58});
  CHECK_FALSE(scene.offer(0)->settled);
  scene.lane(0, 58, {"other", true});
  CHECK(scene.offer(0)->epoch == Epoch{59});
  CHECK(scene.offer(0)->settled);
}

TEST_CASE("lane table: rubbish in the lease stream is held by nobody who lives", "[lanes][unit]") {
  Scene scene;
  for (const char* name : {"work.player.64.1", "work.player.x.1", "work.player.1.x", "work.player",
                           "work.other.1.1", "seat.other.a", "view.player.1", "", ".",
                           "work.player.1.0", "work.player.1.1000000000000001",
                           "work.player.1.18446744073709551615", "work.player.1.-1"}) {
    CHECK_FALSE(scene.table.take(name, scene.message("{"), scene.now));
  }
  CHECK(scene.table.offers().size() == limits::lanes);
  scene.table.take("work.player.1.5", scene.message("\xff not json"), scene.now);
  CHECK_FALSE(scene.offer(1));
  scene.now += 4s;
  REQUIRE(scene.table.suspects(scene.now).size() == 1);
  CHECK(scene.table.suspects(scene.now)[0].empty());
  scene.table.confirm("", scene.now);
  CHECK(scene.offer(1)->epoch == Epoch{6});
}

TEST_CASE("lane table: seats that nobody sits on are cleared after a minute", "[lanes][unit]") {
  Scene scene;
  scene.beat("gone");
  scene.beat("holds");
  scene.lane(0, 1, {"holds"});
  scene.now += 30s;
  CHECK(scene.table.clear_seats(scene.now).empty());
  scene.now += 31s;
  CHECK(scene.table.clear_seats(scene.now) == std::vector<Sequence>{Sequence{1}});
  CHECK(scene.table.clear_seats(scene.now).empty());
}

}  // namespace dmm::worker
