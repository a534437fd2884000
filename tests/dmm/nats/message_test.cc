// The formats of the server that are read by hand.

#include "dmm/nats/message.h"

#include <catch2/catch.hpp>

#include <chrono>

using namespace dmm::nats;

TEST_CASE("delivery: the reply subject is read in its short and its long form", "[nats][unit]") {
  const auto reply =
      GENERATE(std::string("$JS.ACK.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3"),
               std::string("$JS.ACK.domain.hash.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3"),
               std::string("$JS.ACK.domain.hash.DMM_ns_WORK.abc.1.41.7.1700000000123456789.3.rnd"));
  const auto delivery = parse_delivery(reply);
  REQUIRE(delivery.has_value());
  CHECK(delivery->consumer == "DMM_ns_WORK.abc");
  CHECK(delivery->stream_sequence == dmm::Sequence{41});
  CHECK(delivery->consumer_sequence == 7);
  CHECK(delivery->pending == 3);
  CHECK(
      std::chrono::duration_cast<std::chrono::milliseconds>(delivery->stored_at.time_since_epoch())
          .count() == 1'700'000'000'123);
}

TEST_CASE("delivery: anything else is none", "[nats][unit]") {
  CHECK_FALSE(parse_delivery(
      GENERATE("", "$JS.ACK", "_INBOX.x.r.1", "$JS.ACK.s.c.1.x.7.1.3", "$JS.ACK.s.c.1.2.7.1")));
}

TEST_CASE("server time: nanoseconds are read and rubbish is none", "[nats][unit]") {
  const auto time = parse_time("2026-11-21T04:10:00.123456789Z");
  REQUIRE(time.has_value());
  CHECK(std::chrono::duration_cast<std::chrono::milliseconds>(time->time_since_epoch()).count() ==
        1'795'234'200'123);
  CHECK(parse_time("2200-01-01T00:00:00Z").has_value());
  CHECK_FALSE(parse_time(GENERATE("", "yesterday", "2026-11-21", "2026-11-21T04:10:00",
                                  "2026-11-21T04:10:00+02:00", "2026-11-21T04:10:00.5Zz",
                                  "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
                                  "99999999999-01-01T00:00:00Z")));
}

TEST_CASE("base64: what is none is refused", "[nats][unit]") {
  CHECK(decode_base64("eyJhIjoxfQ==") == "{\"a\":1}");
  CHECK(decode_base64("") == "");
  CHECK_FALSE(decode_base64(
      GENERATE("e", "eyJhIjoxfQ=", "eyJ!", "====", "e===", "ey J", "e=Jh", "eyJhIjoxfQ==\n")));
}

TEST_CASE("stored message: its headers are read", "[nats][unit]") {
  const auto headers = parse_header_block("NATS/1.0\r\nDmm-Done: x 5\r\nEmpty:\r\n\r\n");
  REQUIRE(headers.size() == 2);
  CHECK(dmm::transport::find_header(headers, "Dmm-Done") == "x 5");
  CHECK(dmm::transport::find_header(headers, "Empty") == "");
}
