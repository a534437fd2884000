// Goal: values have one form, one order and one hash; Z-sets are a group; sums of doubles are
// exact.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/decode.h"
#include "engine/error.h"
#include "engine/exact_sum.h"
#include "engine/ordered_bag.h"
#include "random.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

Value parse(const std::string& text) {
  static Decoder decoder;
  Value value;
  std::string error;
  INFO(text << " " << error);
  REQUIRE(decoder.decode(text, value, error));
  return value;
}

std::string refusal(const std::string& text, DecodeLimits limits = {}) {
  Decoder decoder(limits);
  Value value = Value::integer(42);
  std::string error;
  if (decoder.decode(text, value, error)) return "";
  CHECK(value == Value::integer(42));
  return error.empty() ? "no reason" : error;
}

json nested(Random& random, int depth) {
  if (depth == 0 || random.chance(40)) return random.scalar();
  json result = random.chance(50) ? json::array() : json::object();
  for (std::size_t i = random.below(4); i > 0; --i) {
    if (result.is_array())
      result.push_back(nested(random, depth - 1));
    else
      result["f" + std::to_string(random.below(12))] = nested(random, depth - 1);
  }
  return result;
}

}  // namespace

TEST_CASE("value: 1 and 1.0 are the same value at every depth", "[value][unit]") {
  CHECK(parse("1") == parse("1.0"));
  CHECK(parse("[1,{\"a\":2}]") == parse("[1.0,{\"a\":2e0}]"));
  CHECK(hash(parse("[1,{\"a\":2}]")) == hash(parse("[1.0,{\"a\":2.0}]")));
  CHECK(parse("-0.0") == parse("0"));
  CHECK_FALSE(parse("1") == parse("\"1\""));
  CHECK_FALSE(parse("1") == parse("true"));
  CHECK(Value::real(7.0) == Value::integer(7));
  CHECK(hash(Value::real(7.0)) == hash(Value::integer(7)));
  CHECK(compare(parse("9007199254740993"), parse("9007199254740992.0")) > 0);
}

TEST_CASE("value: the order of members does not matter", "[value][unit]") {
  CHECK(parse(R"({"a":1,"b":[2]})") == parse(R"({"b":[2],"a":1})"));
  CHECK(to_text(parse(R"({"b":1,"a":"x\n"})")) == R"({"a":"x\n","b":1})");
}

TEST_CASE("value: equality hash and order agree on random values", "[value][unit]") {
  const std::uint64_t seed = seed_of_run();
  Random random(seed);
  std::vector<Value> values;
  for (int i = 0; i < 300; ++i) values.push_back(from_json(nested(random, 3)));
  for (const Value& a : values) {
    CHECK(parse(to_text(a)) == a);
    for (const Value& b : values) {
      INFO("seed " << seed << " " << to_text(a) << " " << to_text(b));
      REQUIRE((compare(a, b) == 0) == (a == b));
      REQUIRE(compare(a, b) == -compare(b, a));
      if (a == b) REQUIRE(hash(a) == hash(b));
      REQUIRE((to_text(a) == to_text(b)) == (a == b));
    }
  }
}

TEST_CASE("value: numbers print as short as they read back", "[value][unit]") {
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(1e21) == "1e+21");
  CHECK(number_text(123456789012345680000.0) == "1.2345678901234568e+20");
  CHECK(number_text(0x1p63) == "9.223372036854776e+18");
  CHECK(number_text(-0x1p63) == "-9223372036854775808");
  CHECK(number_text(0x1p62) == "4611686018427387904");
  CHECK(number_text(-1e-10) == "-1e-10");
  CHECK(number_text(-0.0) == "0");
  CHECK(number_text(1e-7) == "1e-7");
  CHECK(number_text(0.000001) == "0.000001");
}

TEST_CASE("decode: what is no acceptable document is refused with a reason", "[decode][unit]") {
  CHECK(refusal(R"({"a":1,"a":2})").find("twice") != std::string::npos);
  CHECK(refusal(R"({"a":{"b":1,"b":1}})").find("twice") != std::string::npos);
  CHECK(refusal("\"a\\u0000b\"").find("U+0000") != std::string::npos);
  CHECK(refusal("{\"a\\u0000\":1}").find("U+0000") != std::string::npos);
  CHECK_FALSE(refusal("\"\\ud800\"").empty());
  CHECK_FALSE(refusal("\"\\udc00\"").empty());
  CHECK_FALSE(refusal("\"\xff\"").empty());
  CHECK_FALSE(refusal("\"\xc0\x80\"").empty());
  CHECK_FALSE(refusal("9223372036854775808").empty());
  CHECK_FALSE(refusal("123456789012345678901234567890").empty());
  CHECK_FALSE(refusal("1e999").empty());
  CHECK_FALSE(refusal("{} {}").empty());
  CHECK_FALSE(refusal("").empty());
  CHECK_FALSE(refusal("{\"a\":").empty());
  CHECK_FALSE(refusal("NaN").empty());
  CHECK(refusal("9223372036854775807").empty());
  CHECK(refusal("-9223372036854775808").empty());
}

TEST_CASE("decode: depth and size are refused beyond their limits and not at them",
          "[decode][unit]") {
  const auto deep = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  CHECK(refusal(deep(64)).empty());
  CHECK(refusal(deep(65)).find("nested deeper") != std::string::npos);
  CHECK(refusal("[1]", {64, 3}).empty());
  CHECK(refusal("[1] ", {64, 3}).find("limit") != std::string::npos);
  CHECK_FALSE(refusal("1", {64, 0}).empty());
}

TEST_CASE("decode: unused fields are checked and left out", "[decode][unit]") {
  Fields fields = Fields::none();
  fields.add(std::vector<std::string>{"a", "b"});
  fields.add(std::vector<std::string>{"c"});
  Decoder decoder({}, fields);
  Value value;
  std::string error;
  REQUIRE(decoder.decode(R"({"a":{"b":1,"x":2},"c":{"d":[1]},"z":"long"})", value, error));
  CHECK(to_text(value) == R"({"a":{"b":1},"c":{"d":[1]}})");
  CHECK_FALSE(decoder.decode(R"({"z":{"q":1,"q":2}})", value, error));
  REQUIRE(decoder.decode(R"({"a":5})", value, error));
  CHECK(to_text(value) == R"({"a":5})");
}

TEST_CASE("decode: objects of one size and other keys are told apart", "[decode][unit]") {
  Decoder decoder;
  std::string error;
  Value value;
  for (int round = 0; round < 3; ++round)
    for (const char* text : {R"({"a":1,"b":{"c":2,"d":[{"x":1}]}})", R"({"a":1,"c":{"c":2,"d":3}})",
                             R"({"a":{"d":1,"e":2},"b":2})", R"({"b":2,"a":1})"}) {
      REQUIRE(decoder.decode(text, value, error));
      CHECK(value == from_json(json::parse(text)));
    }
  CHECK_FALSE(decoder.decode(R"({"a":1,"a":2})", value, error));
  CHECK_FALSE(decoder.decode(R"({"a":1,"b":"\u0000"})", value, error));
  REQUIRE(decoder.decode(R"({"a":1,"b":2})", value, error));
  CHECK(to_text(value) == R"({"a":1,"b":2})");
}

TEST_CASE("value: the text of every number reads back", "[value][unit]") {
  for (const double number : {0x1p53, 0x1p62, 0x1p63, -0x1p63, -0x1.8p63, 1e19, 1e20, 9.9e20, 1e21,
                              1e300, 5e-324, 1e-6, 9.9e-7, 0.1, -0.0, 123456.75}) {
    const Value value = Value::real(number);
    INFO(to_text(value));
    CHECK(parse(to_text(value)) == value);
    CHECK(to_text(parse(to_text(value))) == to_text(value));
  }
}

TEST_CASE("zset: addition is that of a group", "[zset][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (std::uint64_t run = 0; run < steps_of_run(300); ++run) {
    INFO("seed " << seed << " run " << run);
    Random random(seed + run);
    const auto batch = [&random] {
      Batch rows;
      for (std::size_t i = random.below(60); i > 0; --i)
        rows.push_back(Row{from_json(random.document()), static_cast<Weight>(random.below(7)) - 3});
      return rows;
    };
    const Batch a = batch();
    const Batch b = batch();
    Zset ab;
    Zset ba;
    REQUIRE((ab.add(a) && ab.add(b)));
    REQUIRE((ba.add(b) && ba.add(a)));
    CHECK(ab == ba);
    Batch both = a;
    both.insert(both.end(), b.begin(), b.end());
    REQUIRE(consolidate(both));
    Zset consolidated;
    REQUIRE(consolidated.add(both));
    CHECK(consolidated == ab);
    CHECK(both.size() == ab.size());
    for (const Row& row : a) REQUIRE(ab.add(row.value, -row.weight));
    for (const Row& row : b) REQUIRE(ab.add(row.value, -row.weight));
    CHECK(ab.empty());
  }
}

TEST_CASE("zset: overflow of a weight is reported and changes nothing", "[zset][unit]") {
  Zset zset;
  const Value x = Value::integer(1);
  REQUIRE(zset.add(x, INT64_MAX));
  CHECK_FALSE(zset.add(x, 1));
  CHECK(zset.weight(x) == INT64_MAX);
  Batch batch = {{x, INT64_MAX}, {x, 1}};
  CHECK_FALSE(consolidate(batch));
}

TEST_CASE("ordered bag: agrees with a sorted list under random changes", "[zset][unit]") {
  const std::uint64_t seed = seed_of_run();
  Random random(seed);
  OrderedBag bag;
  std::map<std::int64_t, Weight> model;
  for (std::size_t step = 0; step < steps_of_run(50000); ++step) {
    const auto key = static_cast<std::int64_t>(random.below(1500));
    const Weight weight = static_cast<Weight>(random.below(5)) - 2;
    Weight before;
    REQUIRE(bag.add(Value::integer(key), weight, before));
    REQUIRE(before == model[key]);
    model[key] += weight;
    if (step % 997 != 0) continue;
    std::vector<std::pair<std::int64_t, Weight>> expected;
    for (const auto& [k, w] : model)
      if (w > 0) expected.emplace_back(k, w);
    std::vector<std::pair<std::int64_t, Weight>> found;
    bag.ascend([&found](const Row& row) {
      found.emplace_back(row.value->as_integer(), row.weight);
      return true;
    });
    INFO("seed " << seed << " step " << step);
    REQUIRE(found == expected);
    if (!expected.empty()) REQUIRE(bag.last()->as_integer() == expected.back().first);
  }
}

TEST_CASE("exact sum: order and opposite additions do not show", "[sum][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (std::uint64_t run = 0; run < steps_of_run(300); ++run) {
    Random random(seed + run);
    std::vector<double> numbers;
    for (std::size_t i = 1 + random.below(50); i > 0; --i)
      numbers.push_back(std::ldexp(static_cast<double>(static_cast<std::int64_t>(random.bits())),
                                   static_cast<int>(random.below(400)) - 250));
    ExactSum forward;
    for (const double number : numbers) REQUIRE(forward.add(Value::real(number), 1));
    REQUIRE(forward.add(Value::real(1e300), 3));
    std::shuffle(numbers.begin(), numbers.end(), std::mt19937_64(run));
    ExactSum other;
    for (const double number : numbers) REQUIRE(other.add(Value::real(number), 1));
    REQUIRE(forward.add(Value::real(1e300), -3));
    Value a;
    Value b;
    REQUIRE((forward.sum(a) && other.sum(b)));
    INFO("seed " << seed << " run " << run);
    REQUIRE(a->bits == b->bits);
  }
}

TEST_CASE("exact sum: one rounding at the end", "[sum][unit]") {
  const auto sum = [](std::initializer_list<double> numbers) {
    ExactSum total;
    for (const double number : numbers) REQUIRE(total.add(Value::real(number), 1));
    Value out;
    REQUIRE(total.sum(out));
    return out->as_double();
  };
  CHECK(sum({1e100, 1.0, -1e100}) == 1.0);
  CHECK(sum({0.1, 0.2, 0.3}) == 0.6);
  CHECK(sum({1.0, 0x1p-53}) == 1.0);
  CHECK(sum({1.0, 0x1p-53, 0x1p-1000}) == 1.0 + 0x1p-52);
  CHECK(sum({5e-324, 5e-324}) == 1e-323);
  CHECK(sum({-0.5, -0x1p-60}) == -0.5);
  ExactSum huge;
  REQUIRE(huge.add(Value::real(1.7e308), 2));
  Value out;
  CHECK_FALSE(huge.sum(out));
  REQUIRE(huge.mean(2, out));
  CHECK(out->as_double() == 1.7e308);
  ExactSum thirds;
  REQUIRE(thirds.add(Value::integer(1), 1));
  REQUIRE(thirds.mean(3, out));
  CHECK(out->as_double() == 1.0 / 3.0);
}
