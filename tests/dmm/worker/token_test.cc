#include "dmm/worker/token.h"

#include <catch2/catch.hpp>

#include <string>

#include "dmm/error.h"
#include "dmm/limits.h"

using dmm::worker::read_token;

namespace {

dmm::transport::Message message_on(std::string subject, std::string payload = "{}") {
  dmm::transport::Message message;
  message.subject = std::move(subject);
  message.payload = std::move(payload);
  message.sequence = dmm::Sequence{3};
  return message;
}

std::string lane(const std::string& key) {
  return std::to_string(dmm::lane_of_key(key));
}

}  // namespace

TEST_CASE("token: a plain message of any client is whole news", "[worker][unit]") {
  const auto token = read_token(
      message_on("dmm.ns.work.player." + lane("player.kitchen=2Eleft") + ".kitchen=2Eleft"));
  REQUIRE(token.ok());
  CHECK(token.value().identity == dmm::Identity{"player", "kitchen.left"});
  CHECK(token.value().key == "player.kitchen=2Eleft");
  CHECK(token.value().news == "{}");
  CHECK(token.value().view.empty());
  CHECK_FALSE(token.value().deleted);
}

TEST_CASE("token: a wrong lane is refused with the right one", "[worker][unit]") {
  const std::string right = lane("player.p1");
  const auto token = read_token(message_on("dmm.ns.work.player.64.p1"));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::wrong_lane.id);
  CHECK_THAT(token.error().message(), Catch::Contains("lane " + right));
}

TEST_CASE("token: a type that is none is refused", "[worker][unit]") {
  const auto type = GENERATE(as<std::string>(), "p,ayer", "caf\xC3\xA9", "a b", "\xFF");
  const auto token =
      read_token(message_on("dmm.ns.work." + type + "." + lane(type + ".p1") + ".p1"));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::bad_identity.id);
}

TEST_CASE("token: another spelling is refused with the right one", "[worker][unit]") {
  const auto spelling = GENERATE(table<std::string, std::string>({
      {"a=2e", "a=2E"},  // lower-case hex
      {"=61", "a"},      // escaped without need
      {"caf\xC3\xA9", "caf=C3=A9"},
      {"a=", "a=3D"},
      {"a=G0", "a=3DG0"},
  }));
  const auto token = read_token(message_on("dmm.ns.work.player.0." + std::get<0>(spelling)));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::bad_spelling.id);
  CHECK_THAT(token.error().message(), Catch::EndsWith("is spelled " + std::get<1>(spelling)));
}

TEST_CASE("token: what a newer version wrote is refused", "[worker][unit]") {
  auto message = message_on("dmm.ns.work.player." + lane("player.p1") + ".p1");
  message.headers = {{"Dmm-Version", GENERATE("2", "99999999999999", "x", "0", "-1", "")}};
  const auto token = read_token(std::move(message));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::newer_format.id);
}

TEST_CASE("token: news at the size limit pass and one byte more does not", "[worker][unit]") {
  const std::string subject = "dmm.ns.work.player." + lane("player.p1") + ".p1";
  CHECK(read_token(message_on(subject, std::string(dmm::limits::payload_bytes_max, ' '))).ok());
  const auto token =
      read_token(message_on(subject, std::string(dmm::limits::payload_bytes_max + 1, ' ')));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::too_large.id);
}

TEST_CASE("token: a subject of another shape is no token", "[worker][unit]") {
  const auto subject = GENERATE("", "dmm", "dmm.ns.work.player.1", "dmm.ns.report.player.p1",
                                "x.ns.work.player.1.p1", "dmm.ns.work.player.1.p1.more");
  const auto token = read_token(message_on(subject));
  REQUIRE_FALSE(token.ok());
  CHECK(token.error().code().id == dmm::code::foreign_subject.id);
}

TEST_CASE("token: no wait is longer than its delay says, and rubbish says nothing",
          "[worker][unit]") {
  const auto delay_of = [](const std::string& text) {
    auto message = message_on("dmm.ns.work.player." + lane("player.p1") + ".p1");
    message.headers.emplace_back("Dmm-Delay", text);
    return read_token(std::move(message)).value().delay_max;
  };
  CHECK(delay_of("200") == std::chrono::milliseconds(200));
  CHECK(delay_of("0") == std::chrono::milliseconds(0));
  for (const char* const text :
       {"", "-1", "soon", "200s", "9223372036854775807", "99999999999999999999"}) {
    INFO(text);
    CHECK(delay_of(text) == dmm::worker::kNotBeforeMax);
  }
}

TEST_CASE("token: a date to wait for is near and in milliseconds", "[worker][unit]") {
  constexpr std::int64_t kStored = 1'800'000'000'000;
  const auto read = [&](const std::string& date) {
    auto message = message_on("dmm.ns.work.player." + lane("player.p1") + ".p1");
    message.stored_at = std::chrono::system_clock::time_point(std::chrono::milliseconds(kStored));
    message.headers.emplace_back("Dmm-Not-Before", date);
    return read_token(std::move(message));
  };
  const auto soon = read("1800000060000");
  REQUIRE(soon.ok());
  CHECK(soon.value().not_before - soon.value().stored_at == std::chrono::minutes(1));
  CHECK(read("0").ok());
  const auto* const wrong =
      GENERATE("", "soon", "1.8e12", "-1", "1800000060000 ", "7258118400000", "1800000060000000",
               "9223372036854775807", "99999999999999999999");
  const auto refused = read(wrong);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code().id == dmm::code::bad_number.id);
  CHECK_THAT(refused.error().message(), Catch::Contains(wrong));
}
