#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "tests/bench/engine/sqlite.h"
#include "tests/bench/engine/sqlite_plan.h"
#include "tests/bench/engine/subject.h"

namespace dmm::bench {
namespace {

using Words = std::vector<std::uint32_t>;

class SqliteSubject final : public Subject {
 public:
  explicit SqliteSubject(const std::string& workload) : plan_(sqlite_plan(workload)) {
    database_.run(plan_.schema);
    for (const SqlitePlan::Input& input : plan_.inputs) {
      inserts_.push_back(database_.prepare(input.insert));
      removes_.push_back(input.remove == nullptr ? Statement() : database_.prepare(input.remove));
    }
    for (const char* query : plan_.queries) queries_.push_back(database_.prepare(query));
    begin_ = database_.prepare("BEGIN");
    commit_ = database_.prepare("COMMIT");
    everything_ = database_.prepare(plan_.everything);
  }

  void prepare(const Events& events) override { events_ = events; }

  void step() override {
    before_.clear();
    after_.clear();
    keys_.clear();
    begin_.run();
    for (const Event& event : events_) {
      const SqlitePlan::Touch& touch = plan_.inputs[event.input].touch;
      if (touch.query < queries_.size()) keys_.emplace(touch.query, key(touch, event));
    }
    for (const auto& [query, key] : keys_) ask(queries_[query], key, before_);
    for (const Event& event : events_) write(event);
    for (const auto& [query, key] : keys_) ask(queries_[query], key, after_);
    commit_.run();
  }

  void changes(Changes& out) override {
    Difference gone;
    Difference come;
    std::set_difference(before_.begin(), before_.end(), after_.begin(), after_.end(),
                        std::back_inserter(gone));
    std::set_difference(after_.begin(), after_.end(), before_.begin(), before_.end(),
                        std::back_inserter(come));
    for (const Words& row : gone) out.add(-1, row, {});
    for (const Words& row : come) out.add(1, row, {});
  }

  void forget() override {
    events_ = Events();
    before_.clear();
    after_.clear();
    keys_.clear();
  }

  bool recompute(Changes& out) override {
    std::set<Words> rows;
    ask(everything_, {}, rows);
    for (const Words& row : rows) out.add(1, row, {});
    return true;
  }

 private:
  using Difference = std::vector<Words>;

  static Words key(const SqlitePlan::Touch& touch, const Event& event) {
    Words key;
    for (const std::size_t column : touch.columns) key.push_back(event.row[column]);
    return key;
  }

  void write(const Event& event) {
    Statement& statement = event.weight > 0 ? inserts_[event.input] : removes_[event.input];
    const std::size_t parameters =
        std::min(plan_.inputs[event.input].columns, statement.parameters());
    for (std::size_t i = 0; i < parameters; ++i) statement.bind(i, event.row[i]);
    statement.run();
  }

  void ask(Statement& query, const Words& key, std::set<Words>& out) const {
    for (std::size_t i = 0; i < key.size(); ++i) query.bind(i, key[i]);
    Words list;
    while (query.next()) {
      Words row = query.row();
      if (!plan_.lists) {
        out.insert(std::move(row));
        continue;
      }
      if (!list.empty() && list[0] != row[0]) out.insert(std::exchange(list, {}));
      if (list.empty()) list = {row[0], 0};
      ++list[1];
      list.push_back(row[1]);
    }
    if (!list.empty()) out.insert(std::move(list));
  }

  const SqlitePlan& plan_;
  Database database_;
  std::vector<Statement> inserts_;
  std::vector<Statement> removes_;
  std::vector<Statement> queries_;
  Statement begin_;
  Statement commit_;
  Statement everything_;
  Events events_;
  std::set<std::pair<std::size_t, Words>> keys_;
  std::set<Words> before_;
  std::set<Words> after_;
};

}  // namespace

std::unique_ptr<Subject> make_sqlite(const std::string& workload) {
  return std::make_unique<SqliteSubject>(workload);
}

}  // namespace dmm::bench
