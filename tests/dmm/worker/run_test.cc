// How one run is contained: what materialize throws, what it is given, what comes back.

#include "dmm/worker/run.h"

#include <catch2/catch.hpp>

#include <stdexcept>

#include "dmm/error.h"

namespace {

using dmm::worker::RunInput;
using dmm::worker::RunResult;

struct NoMatters final : dmm::Matters {
  nlohmann::json matter(const dmm::Identity&) override { return nullptr; }
  void notify(const dmm::Identity&, const nlohmann::json&) override {}
  void poke(const dmm::Identity&) override {}
  const std::string& type_name(std::type_index) const override {
    throw dmm::Error(dmm::code::type_unknown, "none here");
  }
};

RunResult run(const std::function<dmm::Outcome(dmm::Context&, nlohmann::json&)>& handler,
              RunInput input) {
  NoMatters matters;
  input.identity = {"player", "p1"};
  return dmm::worker::run_once({handler}, input, matters, {}, dmm::Logger());
}

struct Player {
  std::string id;
  int song = 0;
  std::string identity() const { return id; }
  void set_identity(std::string value) { id = std::move(value); }
  void materialize(dmm::Context&) {}
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Player, id, song)

RunResult run_player(RunInput input) {
  return run(dmm::erase_type<Player>().materialize, std::move(input));
}

struct Odd {};

}  // namespace

TEST_CASE("run: whatever materialize throws is contained and told", "[worker][unit]") {
  const auto [handler, text] = GENERATE(table<std::function<void()>, std::string>({
      {[] { throw std::runtime_error("player is off"); }, "player is off"},
      {[] { throw std::string("a text"); }, "a text"},
      {[] { throw "a literal"; }, "a literal"},
      {[] { throw 42; }, "threw a value of type int"},
      {[] { throw Odd{}; }, "Odd"},
      {[] { throw dmm::Error(dmm::code::unreachable, "no server"); }, "DMM-0101"},
  }));
  const RunResult result = run(
      [&handler = handler](dmm::Context&, nlohmann::json&) {
        handler();
        return dmm::Outcome::done();
      },
      {});
  CHECK(result.end == RunResult::End::failed);
  CHECK(result.error_code == dmm::code::materialize_failed.id);
  CHECK_THAT(result.error, Catch::Contains(text));
}

TEST_CASE("run: control characters in a thrown message are escaped", "[worker][unit]") {
  const RunResult result = run(
      [](dmm::Context&, nlohmann::json&) -> dmm::Outcome {
        throw std::runtime_error("red \x1b[31m and\nnew line");
      },
      {});
  CHECK(result.error.find('\x1b') == std::string::npos);
  CHECK(result.error.find('\n') == std::string::npos);
}

TEST_CASE("run: a missing cache gives a zeroed object that knows its id", "[worker][unit]") {
  std::string seen;
  RunInput input;
  const RunResult result = run(
      [&](dmm::Context& context, nlohmann::json& cache) {
        seen = dmm::decode_object<Player>(cache, context.identity()).id;
        return dmm::Outcome::done();
      },
      input);
  CHECK(result.end == RunResult::End::succeeded);
  CHECK(seen == "p1");
}

TEST_CASE("run: a zeroed object that the run left alone is not worth an entry", "[worker][unit]") {
  CHECK_FALSE(run_player({}).value.has_value());
  RunInput input;
  input.value = R"({"id":"p1","song":3})";
  CHECK(run_player(input).value == input.value);
}

TEST_CASE("run: an entry that cannot be read counts as missing", "[worker][unit]") {
  RunInput input;
  input.value = GENERATE("rubbish", R"({"song":"not a number"})", "[1,2]", "{\"song\":");
  const RunResult result = run_player(input);
  CHECK(result.end == RunResult::End::succeeded);
  CHECK_FALSE(result.healed.empty());
}

TEST_CASE("run: news that cannot be read are not tried", "[worker][unit]") {
  const auto [news, code] = GENERATE(table<std::string, std::string>({
      {"rubbish", "DMM-0203"},
      {R"({"song":"not a number"})", "DMM-0209"},
      {R"({"song":1,"song":2})", "DMM-0213"},
      {std::string(300, '['), "DMM-0204"},
  }));
  RunInput input;
  input.value = news;
  input.is_news = true;
  const RunResult result = run_player(input);
  CHECK(result.end == RunResult::End::refused);
  CHECK(result.error_code == code);
}

TEST_CASE("run: a cache that is too deep to be read back is refused", "[worker][unit]") {
  const auto nested = [](int depth) {
    nlohmann::json value = 1;
    for (int i = 0; i < depth; ++i) value = nlohmann::json::array({value});
    return value;
  };
  const auto [depth, end] = GENERATE_COPY(
      table<int, RunResult::End>({{64, RunResult::End::succeeded}, {65, RunResult::End::refused}}));
  const RunResult result = run(
      [&, depth = depth](dmm::Context&, nlohmann::json& cache) {
        cache = nested(depth);
        return dmm::Outcome::done();
      },
      {});
  CHECK(result.end == end);
  if (end == RunResult::End::refused) CHECK(result.error_code == "DMM-0204");
}
