// Goal: who may keep a view keeps the same one. Method: releases on streams in memory.

#include "dmm/view/release.h"

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::view {
namespace {

using nlohmann::json;
using testing::MemoryNamespace;

View version(int number) {
  View view;
  view.name = "players";
  view.type = "player";
  view.inputs = {ViewInput::reports("player")};
  view.pipeline = json::array({{{"@project", {{"id", "$.device"}, {"version", number}}}}});
  return view;
}

std::string declare(MemoryNamespace& names, int number) {
  return declare_release(names.streams, version(number)).view.at("pipeline").dump();
}

std::string pipeline(int number) {
  return version(number).pipeline.dump();
}

class NamedSource final : public Source {
 public:
  std::string description() const override { return "list of the caretaker"; }
  std::unique_ptr<SourceReading> read(const json&, SourceSink&) override { return nullptr; }
};

}  // namespace

TEST_CASE("release: a new declaration replaces the old one and not the other way round",
          "[view][unit]") {
  MemoryNamespace names;
  CHECK(declare(names, 1) == pipeline(1));
  CHECK(declare(names, 1) == pipeline(1));
  CHECK(load_release(names.streams, "players")->number == 1);
  CHECK(declare(names, 2) == pipeline(2));
  CHECK(declare(names, 1) == pipeline(2));  // an older program beside a newer one
  CHECK(declare(names, 3) == pipeline(3));
  CHECK(declare(names, 2) == pipeline(3));
  const auto release = load_release(names.streams, "players");
  CHECK(release->number == 3);
  CHECK(release->replaced.size() == 2);
  CHECK(release->by == "declared");
}

TEST_CASE("release: what a person brought back stays in spite of newer programs", "[view][unit]") {
  MemoryNamespace names;
  declare(names, 1);
  declare(names, 2);
  const ViewRelease back = roll_back_release(names.streams, "players", {60, 5});
  CHECK(back.view.at("pipeline").dump() == pipeline(1));
  CHECK(back.by == "rolled back");
  CHECK(back.rollout.per_minute == 60);
  CHECK(declare(names, 2) == pipeline(1));
  CHECK(declare(names, 1) == pipeline(1));
  CHECK(roll_back_release(names.streams, "players", {}).view.at("pipeline").dump() == pipeline(2));
  CHECK(declare(names, 3) == pipeline(3));
}

TEST_CASE("release: the same view again is another rollout of it", "[view][unit]") {
  MemoryNamespace names;
  declare(names, 1);
  const json two = view_to_json(version(2));
  const ViewRelease first = apply_release(names.streams, two, {60, 5}, "applied");
  const ViewRelease second = apply_release(names.streams, two, {0, 0}, "applied");
  CHECK(second.number == first.number + 1);
  CHECK(second.hash == first.hash);
  CHECK(second.previous.at("pipeline").dump() == pipeline(1));
}

TEST_CASE("release: there is nothing before the first", "[view][bad_input][unit]") {
  MemoryNamespace names;
  for (int i = 0; i < 2; ++i) {
    try {
      roll_back_release(names.streams, "players", {});
      FAIL("it went back");
    } catch (const Error& error) {
      CHECK(error.code().id == "DMM-0606");
    }
    declare(names, 1);
  }
}

TEST_CASE("release: rubbish under its name counts as absent", "[view][bad_input][unit]") {
  MemoryNamespace names;
  for (const char* rubbish :
       {"", "{", "[]", "{}", R"({"number":"1"})", R"({"number":1,"view":7})",
        R"({"number":0,"view":{}})", R"({"number":3,"view":{},"replaced":"all"})"}) {
    transport::publish(
        *names.status,
        {.subject = names.streams.names.status_subject(release_key("players")), .payload = rubbish},
        std::chrono::seconds(1));
    CHECK_FALSE(load_release(names.streams, "players"));
  }
  CHECK(declare(names, 1) == pipeline(1));
}

TEST_CASE("release: sources come from the program that declared them or not at all",
          "[view][unit]") {
  MemoryNamespace names;
  View declared = version(1);
  const auto source = std::make_shared<NamedSource>();
  declared.inputs.push_back(ViewInput::table("songs", source));
  const ViewRelease release = declare_release(names.streams, declared);
  const View again = view_of(release, declared);
  REQUIRE(again.inputs.size() == 2);
  CHECK(again.inputs[1].source == source);
  CHECK(hash_of(view_to_json(again)) == release.hash);
  try {
    view_of(release, version(1));
    FAIL("it was read");
  } catch (const Error& error) {
    CHECK(error.code().id == "DMM-0607");
  }
}

}  // namespace dmm::view
