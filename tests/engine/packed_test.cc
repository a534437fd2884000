// Goal: packed rows come out as they went in, whatever was put beside them before and after.
// Method: random rows whose columns change their kind in mid-run, against Zset and plain maps as
// models.
#include "engine/packed/packed_bag_internal.h"
#include "engine/packed/packed_table_internal.h"
#include "engine/packed/positive_bag_internal.h"
#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::internal;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

// One value of each class that a column can hold, and the edges between classes.
const std::vector<json>& edge_values() {
  static const std::vector<json> kValues = {nullptr,
                                            false,
                                            true,
                                            0,
                                            1,
                                            255,
                                            256,
                                            65535,
                                            65536,
                                            16777215,
                                            16777216,
                                            4294967295,
                                            4294967296,
                                            9007199254740992,
                                            9007199254740993,
                                            INT64_MAX,
                                            -1,
                                            -128,
                                            -129,
                                            -2147483648LL,
                                            -2147483649LL,
                                            -9007199254740992,
                                            -9007199254740993,
                                            INT64_MIN,
                                            0.5,
                                            -0.5,
                                            1e300,
                                            -1e-300,
                                            9.3e18,
                                            "",
                                            "a",
                                            "a longer string than most",
                                            json::array(),
                                            json::array({1, 2}),
                                            json::array({0, 1, 2, 3, 4, 5, 6, 7, 8}),
                                            json::object(),
                                            {{"x", 1}}};
  return kValues;
}

json edge(Random& random, std::size_t classes) {
  return edge_values()[random.below(std::min(classes, edge_values().size()))];
}

// Rows of a few makes; columns hold more and more classes as `classes` grows.
Value random_row(Random& random, std::size_t classes) {
  switch (random.below(12)) {
    case 0:
      return from_json(edge(random, classes));
    case 1:
      return from_json(json::array({edge(random, classes), random.below(3)}));
    case 2:
      return from_json({{"a", edge(random, classes)}});
    case 3:
      return from_json({{"a", {{"b", edge(random, classes)}, {"c", edge(random, classes)}}}});
    default:
      return from_json({{"a", edge(random, classes)}, {"b", random.below(2)}});
  }
}

void check_same(const PackedTable& table, const Zset& model) {
  Zset found;
  table.each([&found](const PackedRow& row, const std::uint8_t*) {
    REQUIRE(row.layout->hash(row.record) == hash(row.value()));
    REQUIRE(found.weight(row.value()) == 0);
    REQUIRE(found.add(row.value(), row.weight()));
  });
  REQUIRE(text_of(found) == text_of(model));
  REQUIRE(table.size() == model.size());
}

}  // namespace

TEST_CASE("packed rows: every pair of kinds shares a column", "[packed][unit]") {
  for (const json& a : edge_values())
    for (const json& b : edge_values()) {
      INFO(a.dump() << " " << b.dump());
      RowStore store;
      PackedBag bag;
      Zset model;
      for (const json& part : {a, b}) {
        const Value row = from_json({{"k", 1}, {"v", part}});
        Weight before;
        store.look(row);
        REQUIRE(bag.add(store, 1, before));
        REQUIRE(before == model.weight(row));
        REQUIRE(model.add(row, 1));
      }
      Batch rows;
      bag.ascend(store, [&rows](const PackedRow& row) {
        rows.push_back(Row{row.value(), row.weight()});
        return true;
      });
      REQUIRE(rows.size() == model.size());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        CHECK(to_text(rows[i].value) == to_text(model.rows()[i].value));
        CHECK(rows[i].weight == model.rows()[i].weight);
      }
      bag.clear(store);
      CHECK(store.rows() == 0);
    }
}

TEST_CASE("packed rows: a real on its own with an integral content is the integer",
          "[packed][unit]") {
  PackedTable table;
  Weight before;
  REQUIRE(table.add(Value::real(7.0), 1, before));
  CHECK(table.find(Value::integer(7)));
  REQUIRE(table.add(Value::integer(7), -1, before));
  CHECK(before == 1);
  CHECK(table.size() == 0);
}

TEST_CASE("packed bag: agrees with a Z-set in canonical order while its columns widen",
          "[packed][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (std::uint64_t run = 0; run < steps_of_run(20); ++run) {
    INFO("seed " << seed << " run " << run);
    Random random(seed + run);
    RowStore store;
    PackedBag bag;
    Zset model;
    for (std::size_t step = 0; step < 1500; ++step) {
      const Value row =
          random.chance(30) || model.empty()
              ? random_row(random, 3 + step / 25)
              : (random.chance(50) ? model.row(random.below(model.size())).value
                                   : Value::integer(static_cast<std::int64_t>(random.below(2000))));
      Weight weight = static_cast<Weight>(random.below(5)) - 2;
      if (random.chance(40)) weight = -model.weight(row);
      if (random.chance(2)) weight = static_cast<Weight>(random.below(100000));
      Weight before;
      store.look(row);
      REQUIRE(bag.weight(store) == model.weight(row));
      REQUIRE(bag.add(store, weight, before));
      REQUIRE(before == model.weight(row));
      REQUIRE(model.add(row, weight));
      if (step % 100 != 0) continue;
      const Batch wanted = model.rows();
      std::size_t at = 0;
      bag.ascend(store, [&](const PackedRow& packed) {
        REQUIRE(at < wanted.size());
        REQUIRE(packed.value() == wanted[at].value);
        REQUIRE(packed.weight() == wanted[at++].weight);
        return true;
      });
      REQUIRE(at == wanted.size());
      REQUIRE(store.rows() == at);
    }
    bag.clear(store);
    REQUIRE(bag.empty());
  }
}

// Large bags look for a row by a number made of its beginning, so here that number says little.
TEST_CASE("packed bag: rows that begin alike are told apart in many chunks", "[packed][unit]") {
  const auto row = [](std::uint64_t kind, std::uint64_t n) {
    const std::string text = "a long beginning " + std::to_string(n);
    switch (kind) {
      case 0:
        return Value::string(text);
      case 1:
        return Value::integer(INT64_MAX - static_cast<std::int64_t>(n));
      case 2:
        return from_json({{"a", 1}, {"b", n}});
      case 3:
        return from_json(json::array({text, n}));
      default:
        return Value::string(text.substr(0, n % text.size()));
    }
  };
  const std::uint64_t seed = seed_of_run();
  for (std::uint64_t run = 0; run < steps_of_run(10); ++run) {
    INFO("seed " << seed << " run " << run);
    Random random(seed + run);
    RowStore store;
    PackedBag bag;
    Zset model;
    const std::uint64_t only = random.below(6);  // 5: all kinds in one bag
    for (std::size_t step = 0; step < 6000; ++step) {
      const bool goes = !model.empty() && random.chance(step < 4000 ? 30 : 70);
      const Value next = goes ? model.row(random.below(model.size())).value
                              : row(only == 5 ? random.below(5) : only, random.below(3000));
      const Weight weight = goes ? -model.weight(next) : 1;
      Weight before;
      store.look(next);
      REQUIRE(bag.add(store, weight, before));
      REQUIRE(before == model.weight(next));
      REQUIRE(model.add(next, weight));
    }
    std::size_t at = 0;
    const Batch wanted = model.rows();
    bag.ascend(store, [&](const PackedRow& packed) {
      REQUIRE(at < wanted.size());
      REQUIRE(packed.value() == wanted[at++].value);
      return true;
    });
    CHECK(at == wanted.size());
    bag.clear(store);
  }
}

TEST_CASE("packed table: agrees with a Z-set while it grows widens and shrinks", "[packed][unit]") {
  const std::uint64_t seed = seed_of_run();
  for (std::uint64_t run = 0; run < steps_of_run(10); ++run) {
    INFO("seed " << seed << " run " << run);
    Random random(seed + run);
    PackedTable table;
    Zset model;
    for (std::size_t step = 0; step < 6000; ++step) {
      const bool growing = (step / 2000) % 2 == 0;
      Value row = random_row(random, 3 + step / 150);
      if (random.chance(60)) row = from_json({{"a", random.below(5000)}, {"b", random.below(2)}});
      if (!model.empty() && random.chance(growing ? 20 : 80))
        row = model.row(random.below(model.size())).value;
      const Weight weight =
          random.chance(50) ? -model.weight(row) : static_cast<Weight>(random.below(400)) - 100;
      Weight before;
      REQUIRE(table.add(row, weight, before));
      REQUIRE(before == model.weight(row));
      REQUIRE(model.add(row, weight));
      if (step % 500 == 0) check_same(table, model);
    }
    while (!model.empty()) {
      const Row row = model.row(model.size() - 1);
      Weight before;
      REQUIRE(table.add(row.value, -row.weight, before));
      REQUIRE(model.add(row.value, -row.weight));
    }
    check_same(table, model);
  }
}

TEST_CASE("packed table: rows that are too large too deep or of too many makes stay whole",
          "[packed][unit]") {
  PackedTable table;
  Zset model;
  const auto add = [&](const json& document, Weight weight) {
    const Value row = from_json(document);
    Weight before;
    REQUIRE(table.add(row, weight, before));
    REQUIRE(before == model.weight(row));
    REQUIRE(model.add(row, weight));
  };
  std::vector<json> documents;
  json wide = json::object();
  for (int i = 0; i < 70; ++i) {
    wide["m" + std::to_string(i)] = i;
    documents.push_back(wide);                                       // up to 70 leaves
    documents.push_back({{"only" + std::to_string(i), i}});          // 70 makes more
    documents.push_back({{"k", i}, {"list", json::array({i, i})}});  // a list as a leaf
  }
  json deep = 1;
  for (int i = 0; i < 8; ++i) documents.push_back(deep = {{"d", deep}});
  for (int round = 0; round < 3; ++round) {
    for (const json& document : documents) add(document, 1 + round);
    check_same(table, model);
  }
  for (const json& document : documents) add(document, -6);
  check_same(table, model);
  CHECK(table.size() == 0);
}

TEST_CASE("packed table: an overflow changes nothing", "[packed][unit]") {
  PackedTable table;
  const Value row = Value::integer(5);
  Weight before;
  REQUIRE(table.add(row, INT64_MAX, before));
  CHECK_FALSE(table.add(row, 1, before));
  const PackedTable::Place place = table.find(row);
  REQUIRE(place);
  REQUIRE(table.add(row, -INT64_MAX, before));
  CHECK(before == INT64_MAX);
  CHECK(table.size() == 0);
}

TEST_CASE("packed table: rows that came and went leave no memory behind", "[packed][unit]") {
  PackedTable table;
  Weight before;
  for (int i = 0; i < 20000; ++i) REQUIRE(table.add(Value::integer(i), 1, before));
  const std::size_t full = table.bytes();
  for (int i = 0; i < 19900; ++i) REQUIRE(table.add(Value::integer(i), -1, before));
  for (int i = 0; i < 200; ++i) REQUIRE(table.add(Value::integer(i), 1, before));
  CHECK(table.bytes() < full * 2);
  for (int i = 0; i < 200; ++i) REQUIRE(table.add(Value::integer(i), -1, before));
  for (int i = 19900; i < 20000; ++i) REQUIRE(table.add(Value::integer(i), -1, before));
  CHECK(table.bytes() == 0);
}

TEST_CASE("positive bag: what is owed waits aside", "[packed][unit]") {
  const std::uint64_t seed = seed_of_run();
  Random random(seed);
  INFO("seed " << seed);
  RowStore store;
  PositiveBag bag;
  Zset model;
  for (std::size_t step = 0; step < steps_of_run(20000); ++step) {
    const Value row = random_row(random, 1 + step % 40);
    Weight weight = static_cast<Weight>(random.below(7)) - 3;
    if (random.chance(1) && model.weight(row) == 0) weight = INT64_MIN;
    if (model.weight(row) == INT64_MIN) weight = INT64_MAX;
    Weight before;
    store.look(row);
    REQUIRE(bag.add(store, weight, before));
    REQUIRE(before == model.weight(row));
    REQUIRE(model.add(row, weight));
    if (step % 200 != 0) continue;
    Batch wanted = model.rows();
    std::erase_if(wanted, [](const Row& one) { return one.weight < 0; });
    std::size_t at = 0;
    bag.rows().ascend(store, [&](const PackedRow& packed) {
      REQUIRE(at < wanted.size());
      REQUIRE(packed.value() == wanted[at].value);
      REQUIRE(packed.weight() == wanted[at++].weight);
      return true;
    });
    REQUIRE(at == wanted.size());
    REQUIRE(bag.all(store).size() == model.size());
  }
  bag.clear(store);
}
