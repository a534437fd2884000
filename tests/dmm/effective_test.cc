// The effective cache: what a reader takes as the value of an identity.

#include <catch2/catch.hpp>

#include "dmm/error.h"
#include "dmm/internal/streams.h"
#include "dmm/json.h"

namespace dmm::internal {

namespace {

transport::Message entry_of(std::string payload) {
  transport::Message message;
  message.payload = std::move(payload);
  return message;
}

transport::Message news_of(std::string payload, bool of_view = false) {
  transport::Message message = entry_of(std::move(payload));
  if (of_view) message.headers.emplace_back(wire::kView, "v1");
  return message;
}

Effective effective(std::optional<transport::Message> token,
                    std::optional<transport::Message> entry) {
  return Effective{std::move(token), std::move(entry), {}};
}

}  // namespace

TEST_CASE("effective cache: nothing is known where nothing was stored", "[effective][unit]") {
  CHECK_FALSE(effective_text(effective(std::nullopt, std::nullopt)));
  CHECK_FALSE(effective_text(effective(news_of(""), std::nullopt)));
}

TEST_CASE("effective cache: news replace the entry and a poke leaves it", "[effective][unit]") {
  const auto entry = entry_of(R"({"a":1})");
  CHECK(effective_text(effective(std::nullopt, entry)) == R"({"a":1})");
  CHECK(effective_text(effective(news_of(""), entry)) == R"({"a":1})");
  CHECK(effective_text(effective(news_of("", true), entry)) == R"({"a":1})");
  CHECK(effective_text(effective(news_of(R"({"b":2})"), entry)) == R"({"b":2})");
  CHECK(effective_text(effective(news_of(R"({"b":2})"), std::nullopt)) == R"({"b":2})");
  CHECK(effective_text(effective(news_of("rubbish"), entry)) == "rubbish");
}

TEST_CASE("effective cache: news of a view are laid over the entry", "[effective][unit]") {
  const auto entry = entry_of(R"({"a":1,"b":{"x":1,"y":1}})");
  CHECK(effective_text(effective(news_of(R"({"b":{"x":2},"c":null})", true), entry)) ==
        R"({"a":1,"b":{"x":2},"c":null})");
  CHECK(effective_text(effective(news_of(R"({"c":3})", true), std::nullopt)) == R"({"c":3})");
}

TEST_CASE("effective cache: top-level fields replace each other whole", "[effective][unit]") {
  CHECK(lay_over(R"({"a":[1,2]})", R"({"a":[3]})") == R"({"a":[3]})");
  CHECK(lay_over("", R"({"b":1,"a":2})") == R"({"a":2,"b":1})");
  CHECK(lay_over(R"({"a":1})", "{}") == R"({"a":1})");
  CHECK(lay_over("[1]", R"({"a":1})") == R"({"a":1})");
  CHECK(lay_over(R"({"a":1})", "7") == "7");
}

TEST_CASE("effective cache: what has to be merged and cannot be read is an error",
          "[effective][unit]") {
  CHECK_THROWS_AS(lay_over("rubbish", "{}"), Error);
  CHECK_THROWS_AS(lay_over("{}", "rubbish"), Error);
  CHECK_THROWS_AS(lay_over("{}", std::string(200'000, '[')), Error);
  CHECK_THROWS_AS(effective_text(effective(news_of("{}", true), entry_of("{"))), Error);
}

}  // namespace dmm::internal
