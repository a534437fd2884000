#include "dmm/json.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

namespace dmm {

namespace {

// "fine", or the code of the refusal.
std::string verdict(std::string_view text, const JsonLimits& limits = {}) {
  const Result<nlohmann::json> result = parse_json(text, limits);
  return result.ok() ? "fine" : std::string(result.error().code().id);
}

std::string nested(std::size_t depth, std::string_view inside = "") {
  return std::string(depth, '[').append(inside) + std::string(depth, ']');
}

using namespace std::string_literals;

}  // namespace

TEST_CASE("json: sound texts are read as they are", "[json][unit]") {
  const std::string text =
      R"({"a":[1,-2,3.5,true,false,null,"x\u00e9\ud83c\udfb5"],"b":{"c":{}},"d":[]})";
  const nlohmann::json value = parse_json(text).value();
  CHECK(value == nlohmann::json::parse(text));
  CHECK(parse_json(dump_json(value)).value() == value);
  CHECK(parse_json(" \t\r\n0 ").value() == 0);
  CHECK(parse_json("\"\"").value() == "");
  CHECK(parse_json("null").value().is_null());
  CHECK(parse_json("[[1],[2,[3]],{\"k\":[4]}]").value() ==
        nlohmann::json::parse("[[1],[2,[3]],{\"k\":[4]}]"));
}

TEST_CASE("json: what is not one document is refused", "[json][unit]") {
  for (const std::string& text : {""s,
                                  " "s,
                                  "{"s,
                                  "{\"a\":"s,
                                  "{\"song\": \"Bohe"s,
                                  "[1,]"s,
                                  "{\"a\" 1}"s,
                                  "nul"s,
                                  "'a'"s,
                                  "{} {}"s,
                                  "1 2"s,
                                  "[1]x"s,
                                  "]"s,
                                  "{]"s,
                                  "NaN"s,
                                  "Infinity"s,
                                  "01"s,
                                  "+1"s,
                                  "// c\n1"s,
                                  "\"\\ud800\""s,
                                  "\"\\x\""s,
                                  "\"a\nb\""s,
                                  "\xEF\xBB\xBF{}"s,
                                  "hello"s}) {
    CAPTURE(text);
    CHECK(verdict(text) == "DMM-0203");
  }
}

TEST_CASE("json: a refusal says where and stays short and printable", "[json][unit]") {
  const std::string message = parse_json("{\"a\": tru}").error().message();
  CHECK(message.find("at byte ") == 0);
  CHECK(message.find("json.exception") == std::string::npos);
  const std::string hostile = parse_json("{\"" + std::string(100'000, '\x1b')).error().message();
  CHECK(hostile.size() < 400);
  CHECK(hostile.find('\x1b') == std::string::npos);
}

TEST_CASE("json: depth is allowed up to the limit", "[json][unit]") {
  const JsonLimits three{.depth_max = 3};
  CHECK(verdict("[[[]]]", three) == "fine");
  CHECK(verdict("[[{\"a\":1}]]", three) == "fine");
  CHECK(verdict("[[[[]]]]", three) == "DMM-0204");
  CHECK(verdict("{\"a\":{\"b\":{\"c\":{}}}}", three) == "DMM-0204");
  CHECK(verdict("[[],[],[[]],[[]],{}]", three) == "fine");
  CHECK(verdict("1", JsonLimits{.depth_max = 0}) == "fine");
  CHECK(verdict("[]", JsonLimits{.depth_max = 0}) == "DMM-0204");
  CHECK(verdict(nested(limits::json_depth_max)) == "fine");
  CHECK(verdict(nested(limits::json_depth_max + 1)) == "DMM-0204");
}

TEST_CASE("json: two hundred thousand levels are refused without recursion", "[json][unit]") {
  CHECK(verdict(nested(200'000)) == "DMM-0204");
  CHECK(verdict(std::string(200'000, '[')) == "DMM-0204");
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += "{\"\":";
  CHECK(verdict(objects.substr(0, 900'000)) == "DMM-0204");
}

TEST_CASE("json: size is allowed up to the limit", "[json][unit]") {
  const JsonLimits ten{.bytes_max = 10};
  CHECK(verdict("\"12345678\"", ten) == "fine");
  CHECK(verdict("\"123456789\"", ten) == "DMM-0202");
  CHECK(verdict("1", JsonLimits{.bytes_max = 0}) == "DMM-0202");
  CHECK(verdict("", JsonLimits{.bytes_max = 0}) == "DMM-0203");
  const std::string full = fmt::format("\"{}\"", std::string(limits::payload_bytes_max - 2, 'x'));
  CHECK(verdict(full) == "fine");
  CHECK(verdict(full + " ") == "DMM-0202");
}

TEST_CASE("json: NUL and bytes that are not UTF-8 are refused", "[json][unit]") {
  for (const std::string& text :
       {"\0"s, "{}\0"s, "\"a\0b\""s, "\"a\\u0000b\""s, "{\"a\\u0000\":1}"s, "[\"\\u0000\"]"s,
        "\"\xFF\""s, "\"\x80\""s, "\"\xC0\xAF\""s, "\"\xE2\x82\""s, "\"\xED\xA0\x80\""s,
        "\"\xF4\x90\x80\x80\""s, "\"\xF8\x88\x80\x80\x80\""s, "\"\xE0\x80\xAF\""s, "\xC3"s,
        "{\"\xC3\x28\":1}"s, "\xFE\xFF\0["s}) {
    CAPTURE(text);
    CHECK(verdict(text) == "DMM-0205");
  }
  CHECK(verdict("\"\xC3\xBC \xE2\x82\xAC \xF0\x9F\x8E\xB5 \xF4\x8F\xBF\xBF\"") == "fine");
}

TEST_CASE("json: numbers that would lose digits or overflow are refused", "[json][unit]") {
  CHECK(verdict("18446744073709551615") == "fine");
  CHECK(verdict("-9223372036854775808") == "fine");
  CHECK(verdict("18446744073709551616") == "DMM-0206");
  CHECK(verdict("-9223372036854775809") == "DMM-0206");
  CHECK(verdict("[1,{\"a\":123456789012345678901234567890}]") == "DMM-0206");
  CHECK(verdict("1e400") == "DMM-0206");
  CHECK(verdict("-1e400") == "DMM-0206");
  CHECK(verdict("[1E999999999]") == "DMM-0206");
  CHECK(verdict(std::string(400, '9') + ".5") == "DMM-0206");
  CHECK(verdict(std::string(5'000, '9')) == "DMM-0206");
  CHECK(parse_json("1.7976931348623157e308").value() == std::numeric_limits<double>::max());
  CHECK(parse_json("1e-400").value() == 0.0);
  CHECK(parse_json("18446744073709551615").value() == 18446744073709551615u);
}

TEST_CASE("json: a key named twice is refused wherever it stands", "[json][unit]") {
  CHECK(verdict(R"({"a":1,"a":1})") == "DMM-0213");
  CHECK(verdict(R"([{"a":{"b":1,"c":[],"b":2}}])") == "DMM-0213");
  CHECK(verdict(R"({"a":1,"\u0061":2})") == "DMM-0213");
  CHECK(verdict(R"({"":1,"":2})") == "DMM-0213");
  CHECK(verdict(R"({"a":{"a":{"a":1}},"b":{"a":1}})") == "fine");
}

TEST_CASE("json: dumping never fails on invalid UTF-8", "[json][unit]") {
  const nlohmann::json value{{"b", "x\xFFy"}, {"a", 1}};
  CHECK(dump_json(value) == "{\"a\":1,\"b\":\"x\xEF\xBF\xBDy\"}");
}

TEST_CASE("json: printable text cannot steer a terminal", "[json][unit]") {
  CHECK(printable("plain gr\xC3\xBCn \xF0\x9F\x8E\xB5") == "plain gr\xC3\xBCn \xF0\x9F\x8E\xB5");
  CHECK(printable("\x1b[2J\n\t\r\x7f"s) == "\\x1B[2J\\x0A\\x09\\x0D\\x7F");
  CHECK(printable("a\0b"s) == "a\\x00b");
  CHECK(printable("\xC2\x9B"
                  "2J") == "\\xC2\\x9B2J");               // the eight-bit escape
  CHECK(printable("\xE2\x80\xAE") == "\\xE2\\x80\\xAE");  // right-to-left override
  CHECK(printable("\xFF\xC3") == "\\xFF\\xC3");
}

TEST_CASE("json: printable text is cut between characters", "[json][unit]") {
  CHECK(printable("12345", 5) == "12345");
  CHECK(printable("123456", 5) == "12...");
  CHECK(printable("1\xC3\xBC\xC3\xBC", 5) == "1\xC3\xBC\xC3\xBC");
  CHECK(printable("1\xC3\xBC\xC3\xBCx", 5) == "1...");
  CHECK(printable("\x01\x02", 7) == "\\x01...");
  CHECK(printable("abc", 2) == "..");
  CHECK(printable("abc", 0).empty());
  for (std::size_t limit = 0; limit < 60; ++limit) {
    CHECK(printable(std::string(30, '\x1b') + "\xC3\xBC", limit).size() <= limit);
  }
}

}  // namespace dmm
