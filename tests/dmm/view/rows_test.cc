// Goal: the rows of a view are what the changes of its steps add up to, in whatever order they
// come.

#include "dmm/view/rows.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <random>

namespace dmm::view {

namespace {

using engine::Batch;
using engine::Value;
using nlohmann::json;

Value value(const char* text) {
  return engine::from_json(json::parse(text));
}

std::string row_text(Rows& rows, const std::string& id) {
  const Rows::Slot* slot = rows.find(id);
  return slot == nullptr ? "" : engine::to_text(slot->row);
}

}  // namespace

TEST_CASE("rows: the id is the key field as a text or an integer", "[view][unit]") {
  CHECK(id_of(value(R"({"id":"a.b"})"), "id") == "a.b");
  CHECK(id_of(value(R"({"id":-7})"), "id") == "-7");
  CHECK(id_of(value(R"({"name":"n"})"), "name") == "n");
  for (const char* text : {R"({})", R"({"id":null})", R"({"id":1.5})", R"({"id":[1]})",
                           R"({"id":true})", R"({"id":""})", R"([1])", "3"}) {
    CAPTURE(text);
    CHECK(id_of(value(text), "id").empty());
  }
}

TEST_CASE("rows: a new row may come before the old one goes", "[view][unit]") {
  const Value before = value(R"({"id":"a","v":1})");
  const Value after = value(R"({"id":"a","v":2})");
  for (const Batch& change : {Batch{{before, -1}, {after, 1}}, Batch{{after, 1}, {before, -1}}}) {
    Rows rows("id");
    CHECK(rows.apply({{before, 1}}) == std::vector<std::string>{"a"});
    rows.at("a").queued = false;
    CHECK(rows.apply(change) == std::vector<std::string>{"a"});
    CHECK(row_text(rows, "a") == R"({"id":"a","v":2})");
    CHECK(rows.size() == 1);
    CHECK(rows.twice() == 0);
  }
}

TEST_CASE("rows: two rows with one id count as none until one is left", "[view][unit]") {
  Rows rows("id");
  const Value one = value(R"({"id":"a","v":1})");
  const Value two = value(R"({"id":"a","v":2})");
  rows.apply({{one, 1}, {two, 1}});
  CHECK(rows.size() == 0);
  CHECK(rows.twice() == 1);
  CHECK(rows.find("a")->twice);
  rows.apply({{one, -1}});
  CHECK(rows.twice() == 0);
  CHECK(row_text(rows, "a") == R"({"id":"a","v":2})");
  rows.apply({{two, 1}});  // the same row twice is one row
  CHECK(rows.size() == 1);
  rows.apply({{two, -2}});
  CHECK(rows.size() == 0);
}

TEST_CASE("rows: rows without a key are counted as they come and go", "[view][unit]") {
  Rows rows("id");
  CHECK(rows.apply({{value(R"({"v":1})"), 1}}).empty());
  CHECK(rows.without_key() == 1);
  CHECK(rows.apply({{value(R"({"v":1})"), -1}}).empty());
  CHECK(rows.without_key() == 0);
}

TEST_CASE("rows: random changes in random order add up as an oracle says", "[view][unit]") {
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto pick = [&](int below) { return std::uniform_int_distribution(0, below - 1)(random); };
  Rows rows("id");
  std::map<std::string, std::map<std::string, int>> oracle;  // id to rows with their weights
  for (int step = 0; step < 2'000; ++step) {
    Batch batch;
    for (int i = pick(6); i >= 0; --i) {
      const std::string id(1, static_cast<char>('a' + pick(5)));
      const std::string text = json{{"id", id}, {"v", pick(3)}}.dump();
      int& weight = oracle[id][text];
      const int change = weight > 0 && pick(2) == 0 ? -1 : 1;
      weight += change;
      batch.push_back({value(text.c_str()), change});
    }
    std::shuffle(batch.begin(), batch.end(), random);
    for (const std::string& id : rows.apply(batch)) rows.at(id).queued = false;
    std::size_t ones = 0;
    for (const auto& [id, weights] : oracle) {
      std::vector<std::string> present;
      for (const auto& [text, weight] : weights) {
        if (weight > 0) present.push_back(text);
      }
      CHECK(row_text(rows, id) == (present.size() == 1 ? present[0] : "null"));
      ones += present.size() == 1 ? 1 : 0;
    }
    CHECK(rows.size() == ones);
  }
}

TEST_CASE("rows: the same rows have the same digest by whatever way they came", "[view][unit]") {
  const Value a = value(R"({"id":"a","v":1})");
  const Value b = value(R"({"id":"b","v":1})");
  const Value keyless = value(R"({"v":1})");
  Rows straight("id");
  Rows roundabout("id");
  CHECK(straight.digest() == 0);
  straight.apply({{a, 1}, {b, 1}});
  roundabout.apply({{keyless, 1}, {b, 1}, {b, 1}});
  CHECK(straight.digest() != roundabout.digest());
  roundabout.apply({{keyless, -1}, {b, -1}, {a, 1}});
  CHECK(straight.digest() == roundabout.digest());
  straight.apply({{a, -1}});
  CHECK(straight.digest() != roundabout.digest());
}

TEST_CASE("rows: what came and went leaves nothing that seems to be known", "[view][unit]") {
  Rows rows("id");
  rows.absorb({{value(R"({"id":"a","v":1})"), 1}, {value(R"({"id":"b","v":1})"), 1}});
  rows.absorb({{value(R"({"id":"a","v":1})"), -1}});
  rows.at("c").told = value(R"({"id":"c"})");
  rows.drop_empty();
  CHECK(rows.find("a") == nullptr);
  REQUIRE(rows.find("b") != nullptr);
  CHECK(rows.find("c") != nullptr);
  CHECK(rows.size() == 1);
}

TEST_CASE("rows: news say null where a field is gone, and cover what holds them", "[view][unit]") {
  const Value row = value(R"({"id":"a","v":1})");
  const Value told = value(R"({"gone":2,"id":"a"})");
  CHECK(news_of(row, told) == R"({"id":"a","v":1,"gone":null})");
  CHECK(news_of(row, Value()) == R"({"id":"a","v":1})");
  CHECK(covers(value(R"({"id":"a","own":7,"v":1.0})"), row));
  CHECK_FALSE(covers(value(R"({"id":"a"})"), row));
  CHECK_FALSE(covers(value(R"({"id":"a","v":2})"), row));
  CHECK_FALSE(covers(Value(), row));
}

TEST_CASE("rows: their memory is estimated to within a factor of two", "[view][unit]") {
  // Counted by hand: a slot with its node, an id that is too long to lie in it, and the row.
  constexpr std::size_t kRows = 10'000;
  const std::string name(100, 'n');
  Rows rows("id");
  CHECK(rows.memory() < 1'000);
  Batch batch;
  for (std::size_t i = 0; i < kRows; ++i) {
    const json row = {{"id", "an-id-that-is-rather-long-" + std::to_string(i)}, {"name", name}};
    batch.push_back({engine::from_json(row), 1});
  }
  rows.apply(batch);
  const std::size_t text = 30 + name.size() + 2 * 12;
  const std::size_t least = kRows * (sizeof(Rows::Slot) + 30 + text);
  CHECK(rows.memory() > least);
  CHECK(rows.memory() < 2 * least);
}

}  // namespace dmm::view
