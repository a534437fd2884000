// The formats of the server that are read by hand.

#include "dmm/nats/message.h"

#include <catch2/catch.hpp>

#include <chrono>

using namespace dmm::nats;

TEST_CASE("delivery: the reply subject is read in its short and its long form", "[nats][unit]") {
  const auto reply = GENERATE(
      std::string("$JS.ACK.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3"),
      std::string("$JS.ACK.domain.hash.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3"),
      std::string("$JS.ACK.domain.hash.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3.rnd"));
  const auto delivery = parse_delivery(reply);
  REQUIRE(delivery.has_value());
  CHECK(delivery->consumer == "DMM_ns_WORK.abc");
  CHECK(delivery->stream_sequence == dmm::Sequence{41});
  CHECK(delivery->consumer_sequence == 7);
  CHECK(delivery->pending == 3);
  CHECK(std::chrono::duration_cast<std::chrono::milliseconds>(
            delivery->stored_at.time_since_epoch())
            .count() == 1'700'000'000'123);
}

TEST_CASE("delivery: anything else is none", "[nats][unit]") {
  CHECK_FALSE(parse_delivery(
      GENERATE("", "$JS.ACK", "_INBOX.x.r.1", "$JS.ACK.s.c.1.x.7.1.3", "$JS.ACK.s.c.1.2.7.1")));
}

TEST_CASE("server time: nanoseconds are read and rubbish gives the epoch", "[nats][unit]") {
  const auto time = parse_time("2026-11-21T04:10:00.123456789Z");
  CHECK(std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count() ==
        1'795'234'200'123);
  CHECK(parse_time("yesterday") == std::chrono::system_clock::time_point());
}

TEST_CASE("stored message: headers and data are decoded", "[nats][unit]") {
  CHECK(decode_base64("eyJhIjoxfQ==") == "{\"a\":1}");
  CHECK(decode_base64("").empty());
  const auto headers = parse_header_block("NATS/1.0\r\nDmm-Done: x 5\r\nEmpty:\r\n\r\n");
  REQUIRE(headers.size() == 2);
  CHECK(dmm::transport::find_header(headers, "Dmm-Done") == "x 5");
  CHECK(dmm::transport::find_header(headers, "Empty") == "");
}

TEST_CASE("answer: an error of the server keeps its number and its meaning", "[nats][unit]") {
  const std::string conflict =
      R"({"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"}})";
  CHECK(api_error_code(conflict) == js::kWrongLastSequence);
  REQUIRE(api_error(conflict, "publishing").has_value());
  CHECK(api_error(conflict, "publishing")->kind() == dmm::Kind::conflict);
  CHECK_FALSE(api_error(R"({"stream":"S","seq":5})", "publishing").has_value());
}
