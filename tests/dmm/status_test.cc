#include "dmm/internal/status.h"

#include <catch2/catch.hpp>

#include <set>

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

namespace {

transport::Message message_of(std::string payload, transport::Headers headers = {}) {
  transport::Message message;
  message.headers = std::move(headers);
  message.payload = std::move(payload);
  return message;
}

// The rules of NATS for keys, narrowed to what needs no quoting anywhere.
void require_key(const std::string& key) {
  CAPTURE(key);
  REQUIRE(key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "_-=.") == std::string::npos);
  REQUIRE(key.find("..") == std::string::npos);
  REQUIRE(key.front() != '.');
  REQUIRE(key.back() != '.');
  REQUIRE(key.size() <= 1'000);
}

}  // namespace

TEST_CASE("status: what is stored is read back", "[status][unit]") {
  const Status status{"failing",
                      7,
                      "DMM-0301",
                      "said \"no\"\n",
                      1'700'000'000'123,
                      1'700'000'000'999,
                      "2024-01-01T00:00:00Z",
                      18'446'744'073'709'551'615u};
  const auto read = parse_status<Status>(message_of(dump_json(nlohmann::json(status))));
  REQUIRE(read);
  CHECK(nlohmann::json(*read) == nlohmann::json(status));

  const Refusal refusal{"report", "dmm.ns.report.player.1", 9, "DMM-0203", "at byte 1", 5};
  const auto refused = parse_status<Refusal>(message_of(dump_json(nlohmann::json(refusal))));
  REQUIRE(refused);
  CHECK(nlohmann::json(*refused) == nlohmann::json(refusal));

  const Cursor cursor{"2024-01-01T00:00:00Z", 12, 0, 0, {{"p.1", {2, 1'700'000'000'000}}}};
  const auto resumed = parse_status<Cursor>(message_of(dump_json(nlohmann::json(cursor))));
  REQUIRE(resumed);
  CHECK(resumed->sequence == 12);
  CHECK(resumed->created == cursor.created);
  CHECK(resumed->ends == cursor.ends);
}

TEST_CASE("status: missing fields have their defaults", "[status][unit]") {
  const auto status = parse_status<Status>(message_of(R"({"phase":"parked","more":"later"})"));
  REQUIRE(status);
  CHECK(status->attempts == 0);
  CHECK(status->error.empty());
  CHECK(status->token == 0);
  CHECK(parse_status<Cursor>(message_of("{}"))->sequence == 0);
}

TEST_CASE("status: rubbish counts as absent", "[status][unit]") {
  for (const std::string text :
       {"", "null", "7", "[]", "{", "\xFF", R"({"phase":7})", R"({"phase":"dancing"})", "{}",
        R"({"phase":"failing","attempts":"3"})", R"({"phase":"failing","attempts":-1})",
        R"({"phase":"failing","attempts":2147483648})", R"({"phase":"failing","attempts":1.5})",
        R"({"phase":"failing","token":-1})", R"({"phase":"failing","failed_at":1e300})",
        R"({"phase":"failing","next_retry_at":9223372036854775808})",
        R"({"phase":"failing","error":null})", R"({"phase":"failing","phase":"parked"})"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_status<Status>(message_of(text)));
  }
  CHECK(parse_status<Status>(message_of(R"({"phase":"failing","attempts":2147483647})")));
  CHECK_FALSE(parse_status<Cursor>(message_of(R"({"sequence":-5})")));
  CHECK_FALSE(parse_status<Cursor>(message_of(R"({"created":5})")));
  for (const std::string ends :
       {"null", "7", "[]", R"({"a":1})", R"({"a":{"count":-1}})", R"({"a":{"count":"1"}})",
        R"({"a":{"count":2147483648}})", R"({"a":{"at":-1}})", R"({"a":{"at":1e30}})"}) {
    CAPTURE(ends);
    CHECK_FALSE(parse_status<Cursor>(message_of(R"({"ends":)" + ends + "}")));
  }
  CHECK_FALSE(parse_status<Refusal>(message_of(R"({"at":"now"})")));
}

TEST_CASE("status: a removed key is absent whatever its payload", "[status][unit]") {
  for (const char* operation : {"DEL", "PURGE"}) {
    CHECK_FALSE(
        parse_status<Status>(message_of(R"({"phase":"parked"})", {{"KV-Operation", operation}})));
  }
  CHECK(parse_status<Status>(message_of(R"({"phase":"parked"})", {{"KV-Operation", "PUT"}})));
}

TEST_CASE("status: the key of a refusal is a key for any subject", "[status][unit]") {
  CHECK(refusal_key("report", "dmm.music.report.player.7") == "refused.report.report.player.7");
  CHECK(refusal_key("token", "dmm.music.work.player.3.a=2eb") ==
        "refused.token.work.player.3.a=3D2eb");
  std::set<std::string> keys;
  for (const std::string& subject :
       {std::string(), std::string("dmm."), std::string("dmm.ns"), std::string("other"),
        std::string("dmm.ns.work.a b.*.>"), std::string("dmm.ns.work.a..b"),
        std::string("dmm.ns.work.\xFF\n.1.$"), "dmm.ns.work.t.1." + std::string(600, 'x'),
        "dmm.ns.work.t.1." + std::string(5'000, '*'), "dmm.ns.work.t.1." + std::string(5'001, '*'),
        "dmm.ns." + std::string(3'000, '.')}) {
    const std::string key = refusal_key("token", subject);
    require_key(key);
    CHECK(keys.insert(key).second);
    CHECK_FALSE(parse_key(key));  // never taken for the status of an identity
    const auto back = refused_subject(key, "ns");
    if (subject.starts_with("dmm.ns.") && subject.size() < 700) CHECK(back == subject);
    if (subject.size() > 3'000) CHECK_FALSE(back);
  }
}

TEST_CASE("status: the key of a cursor is that of no identity", "[status][unit]") {
  CHECK(cursor_key("player") == "observer.cursor.player");
  CHECK_FALSE(parse_key(cursor_key("player")));
  require_key(cursor_key("a b"));
}

TEST_CASE("status: the failures that are kept are the last ones and short", "[status][unit]") {
  Status status;
  for (int i = 1; i <= 20; ++i) {
    Status next;
    next.phase = "failing";
    next.attempts = i;
    next.error_code = "DMM-0301";
    next.error = std::string(5'000, 'x');
    next.token = 7;
    add_failure(next, i == 1 ? nullptr : &status);
    status = next;
  }
  REQUIRE(status.failures.size() == limits::failures_kept);
  CHECK(status.failures.front().attempt == 20 - static_cast<int>(limits::failures_kept) + 1);
  CHECK(status.failures.back().error.size() <= limits::failure_text_bytes_max + 3);
  const auto read = parse_status<Status>(message_of(nlohmann::json(status).dump()));
  REQUIRE(read);
  CHECK(read->failures.size() == status.failures.size());
  CHECK(read->failures.back().token == 7);
  for (const std::string rubbish : {"7", "{}", "[7]", R"([{"attempt":-1}])", R"([{"at":"x"}])"}) {
    INFO(rubbish);
    CHECK_FALSE(
        parse_status<Status>(message_of(R"({"phase":"failing","failures":)" + rubbish + "}")));
  }
}

TEST_CASE("status: a run that is overdue and then ends is one failure", "[status][unit]") {
  Status status;
  status.attempts = 1;
  status.error_code = "DMM-0302";
  add_failure(status, nullptr);
  Status ended = status;
  add_failure(ended, &status);
  CHECK(ended.failures.size() == 1);
  Status next = status;
  next.attempts = 2;
  add_failure(next, &ended);
  CHECK(next.failures.size() == 2);
}

}  // namespace dmm::internal
