// Goal: the operators mean what they say. Method: the same question asked of SQLite on the same
// random rows, after every few changes; the engine answers from changes, SQLite from the whole
// tables.
#include <sqlite3.h>

#include "laws.h"

using namespace dmm::engine;
using namespace dmm::engine::testing;
using nlohmann::json;

namespace {

class Database {
 public:
  Database() {
    REQUIRE(sqlite3_open(":memory:", &handle_) == SQLITE_OK);
    run("CREATE TABLE a (id INT, k INT, n INT); CREATE TABLE b (id INT, k INT, n INT)");
  }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() { sqlite3_close(handle_); }
  void run(const std::string& sql) {
    REQUIRE(sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  }
  // Every row as an object of its columns.
  Zset query(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    INFO(sql << ": " << sqlite3_errmsg(handle_));
    REQUIRE(sqlite3_prepare_v2(handle_, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK);
    Zset rows;
    while (sqlite3_step(statement) == SQLITE_ROW) {
      json row = json::object();
      for (int i = 0; i < sqlite3_column_count(statement); ++i) {
        json& cell = row[sqlite3_column_name(statement, i)];
        if (sqlite3_column_type(statement, i) == SQLITE_INTEGER)
          cell = sqlite3_column_int64(statement, i);
        else if (sqlite3_column_type(statement, i) == SQLITE_FLOAT)
          cell = sqlite3_column_double(statement, i);
      }
      REQUIRE(rows.add(from_json(row), 1));
    }
    sqlite3_finalize(statement);
    return rows;
  }

 private:
  sqlite3* handle_ = nullptr;
};

struct Question {
  const char* pipeline;
  const char* sql;
};

// Keys are null at times; SQL does not match nulls in joins, the engine does, hence IS.
const Question kQuestions[] = {
    {R"([{"@join":{"@eq":["$.a.k","$.b.k"]}},{"@project":{"x":"$.a.n","y":"$.b.n"}}])",
     "SELECT a.n AS x, b.n AS y FROM a JOIN b ON a.k IS b.k"},
    {R"([{"@join":{"@and":[{"@eq":["$.a.k","$.b.k"]},{"@lt":["$.a.n","$.b.n"]},{"@eq":["$.b.n",2]}]}},{"@project":{"x":"$.a.n","y":"$.b.n"}}])",
     "SELECT a.n AS x, b.n AS y FROM a JOIN b ON a.k IS b.k AND a.n < b.n AND b.n = 2"},
    {R"([{"@join":[{"@eq":["$.a.k","$.b.k"]},{"soft":["b"]}]},{"@project":{"x":"$.a.n","y":{"@definedOr":["$.b.n",null]}}}])",
     "SELECT a.n AS x, b.n AS y FROM a LEFT JOIN b ON a.k IS b.k"},
    {R"([{"@join":[{"@and":[{"@eq":["$.a.k","$.b.k"]},{"@lt":["$.a.n","$.b.n"]},{"@gt":["$.a.n",0]}]},{"soft":["b"]}]},{"@project":{"x":"$.a.n","y":{"@definedOr":["$.b.n",null]}}}])",
     "SELECT a.n AS x, b.n AS y FROM a LEFT JOIN b ON a.k IS b.k AND a.n < b.n AND a.n > 0"},
    {R"([[{"@inputs":["a"]},{"@project":{"x":"$.n"}},"@distinct",{"@output":"output"}]])",
     "SELECT DISTINCT n AS x FROM a"},
    {R"([[{"@inputs":["a"]},{"@groupBy":["$.k","$.n"]},{"@project":{"k":"$.key","c":{"@len":"$.values"},"s":{"@sum":"$.values"},"lo":{"@min":"$.values"},"hi":{"@max":"$.values"},"m":{"@avg":"$.values"}}},{"@output":"output"}]])",
     "SELECT k, count(*) AS c, sum(n) AS s, min(n) AS lo, max(n) AS hi, avg(n) AS m FROM a GROUP "
     "BY k"},
    {R"([[{"@inputs":["a"]},{"@groupBy":["$.k","$.n",{"distinct":true}]},{"@project":{"k":"$.key","c":{"@len":"$.values"},"s":{"@sum":"$.values"}}},{"@output":"output"}]])",
     "SELECT k, count(DISTINCT n) AS c, sum(DISTINCT n) AS s FROM a GROUP BY k"},
    {R"([[{"@inputs":["a"]},{"@select":{"@gt":["$.n",1]}},{"@project":{"x":"$.n"}},{"@output":"output"}],[{"@inputs":["b"]},{"@project":{"x":"$.k"}},{"@output":"output"}]])",
     "SELECT n AS x FROM a WHERE n > 1 UNION ALL SELECT k AS x FROM b"},
    {R"([{"@join":{"@eq":["$.a.k","$.b.k"]}},{"@groupBy":["$.a.n",{"@mul":["$.b.n",2]}]},{"@project":{"n":"$.key","s":{"@sum":"$.values"}}}])",
     "SELECT a.n AS n, sum(b.n * 2) AS s FROM a JOIN b ON a.k IS b.k GROUP BY a.n"},
};

std::string literal(const json& value) {
  return value.is_null() ? "NULL" : value.dump();
}

}  // namespace

TEST_CASE("oracle: the engine answers as SQLite does", "[oracle][unit]") {
  const std::uint64_t seed = seed_of_run();
  WARN("seed " << seed);
  for (const Question& question : kQuestions) {
    INFO("seed " << seed << " " << question.pipeline);
    Random random(seed);
    Database database;
    Program program = Program::compile(json::parse(question.pipeline), two_inputs(true));
    std::map<int, std::pair<std::string, json>> held;
    Zset output;
    StepResult result;
    int next = 0;
    for (std::size_t step = 0; step < steps_of_run(400); ++step) {
      StepInput input;
      for (std::size_t i = random.below(3); i > 0; --i) {
        if (held.size() > 12 || (!held.empty() && random.chance(40))) {
          auto gone =
              std::next(held.begin(), static_cast<std::ptrdiff_t>(random.below(held.size())));
          const auto& [table, row] = gone->second;
          database.run("DELETE FROM " + table + " WHERE id = " + std::to_string(gone->first));
          input.batches[table].push_back(Row{from_json(row), -1});
          held.erase(gone);
        } else {
          const std::string table = random.chance(50) ? "a" : "b";
          const json row = {{"k", random.chance(10) ? json(nullptr) : json(random.below(3))},
                            {"n", random.below(4)}};
          database.run("INSERT INTO " + table + " VALUES (" + std::to_string(++next) + "," +
                       literal(row["k"]) + "," + literal(row["n"]) + ")");
          input.batches[table].push_back(Row{from_json(row), 1});
          held[next] = {table, row};
        }
      }
      REQUIRE(program.step(input, result));
      REQUIRE(result.errors.empty());
      REQUIRE(output.add(result.outputs["output"]));
      REQUIRE(text_of(output) == text_of(database.query(question.sql)));
    }
  }
}
