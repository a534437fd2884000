// Goal: the world refuses who comes with an older epoch, and all who have it mapped see the same.

#include "tests/nemesis/world.h"

#include <catch2/catch.hpp>

#include "dmm/testing/temporary_directory.h"

using namespace dmm::nemesis;

TEST_CASE("world: an older epoch is refused", "[nemesis][unit]") {
  const dmm::testing::TemporaryDirectory directory("dmm-test");
  World world(directory / "world");
  CHECK(world.change(3, 5, 100) == World::Answer::changed);
  CHECK(world.change(3, 4, 101) == World::Answer::refused);
  CHECK(world.news(3) == 100);
  CHECK(world.refused() == 1);
  CHECK(world.change(3, 5, 102) == World::Answer::changed);
  CHECK(world.change(4, 1, 1) == World::Answer::changed);
  CHECK(world.went_back() == 0);
}

TEST_CASE("world: older news of a good epoch are counted", "[nemesis][unit]") {
  const dmm::testing::TemporaryDirectory directory("dmm-test");
  World world(directory / "world");
  world.change(3, 5, 100);
  CHECK(world.change(3, 6, 99) == World::Answer::changed);
  CHECK(world.went_back() == 1);
}

TEST_CASE("world: it is one for all who map its file", "[nemesis][unit]") {
  const dmm::testing::TemporaryDirectory directory("dmm-test");
  World one(directory / "world");
  World other(directory / "world");
  one.change(3, 5, 100);
  ++one.counters().notified;
  CHECK(other.news(3) == 100);
  CHECK(other.counters().notified == 1);
  CHECK(other.change(3, 4, 1) == World::Answer::refused);
}
