// Goal: a view's file says what it says, and whatever is wrong with it is named.

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "dmm/view.h"

namespace dmm {

namespace {

using nlohmann::json;

json good() {
  return json::parse(R"({"view": "players", "type": "player",
    "inputs": [{"reports": "player", "age_s": 60}, {"bucket": "zones", "name": "z", "key_field": ""}],
    "pipeline": [{"@project": {"id": "$.device"}}]})");
}

std::string complaint(const json& file) {
  try {
    view_from_json(file);
    return "";
  } catch (const Error& error) {
    CHECK(&error.code() == &code::bad_view);
    return error.message();
  }
}

}  // namespace

TEST_CASE("view file: every member arrives", "[view][unit]") {
  json file = good();
  file["key"] = "name";
  file["removals_free"] = 7;
  const View view = view_from_json(file);
  CHECK(view.name == "players");
  CHECK(view.type == "player");
  CHECK(view.key == "name");
  CHECK(view.removals_free == 7);
  CHECK(view.pipeline == file["pipeline"]);
  REQUIRE(view.inputs.size() == 2);
  CHECK(view.inputs[0].from == ViewInput::From::reports);
  CHECK(view.inputs[0].name == "player");
  CHECK(view.inputs[0].key_field == "device");
  CHECK(view.inputs[0].age == std::chrono::seconds(60));
  CHECK(view.inputs[1].of == "zones");
  CHECK(view.inputs[1].name == "z");
  CHECK(view.inputs[1].key_field.empty());
}

TEST_CASE("view file: a view that is written reads as it was", "[view][unit]") {
  json file = good();
  file["inputs"][1]["age_s"] = 0.25;
  const View view = view_from_json(file);
  CHECK(view.inputs[1].age == std::chrono::milliseconds(250));
  const json written = view_to_json(view);
  CHECK(view_to_json(view_from_json(written)) == written);
  CHECK(written["inputs"][0] ==
        json{{"reports", "player"}, {"name", "player"}, {"key_field", "device"}, {"age_s", 60}});
}

TEST_CASE("view file: what is wrong is named with its place", "[view][bad_input][unit]") {
  CHECK(complaint(json::array()) == "the view: an object is expected");
  CHECK(complaint(json::object()) == "the view: \"view\" is missing");
  const auto with = [](const char* member, json value) {
    json file = good();
    file[member] = std::move(value);
    return complaint(file);
  };
  CHECK(with("colour", 1).find("there is no member \"colour\"") != std::string::npos);
  CHECK(with("view", 7) == "the view: \"view\" is not a text");
  CHECK(with("type", "a.b").find("the view: ") == 0);
  CHECK(with("key", "") == "the view: \"key\" is empty");
  CHECK(with("inputs", json::array()).find("\"inputs\"") != std::string::npos);
  CHECK(with("removals_free", -1).find("removals_free") != std::string::npos);
  const auto input = [&](json value) { return with("inputs", json::array({std::move(value)})); };
  CHECK(input(7) == "inputs[0]: an object is expected");
  CHECK(input({{"reports", "a"}, {"bucket", "b"}}).find("exactly one of") != std::string::npos);
  CHECK(input({{"name", "a"}}).find("exactly one of") != std::string::npos);
  CHECK(input({{"reports", "a"}, {"age_s", 0}}).find("age_s") != std::string::npos);
  CHECK(input({{"table", "songs"}}).find("does not know tables") != std::string::npos);
  CHECK(with("inputs", json::array({{{"reports", "a"}}, {{"bucket", "a"}}}))
            .find("another input is called \"a\" too") != std::string::npos);
  json file = good();
  file.erase("pipeline");
  CHECK(complaint(file) == "the view: \"pipeline\" is missing");
}

}  // namespace dmm
