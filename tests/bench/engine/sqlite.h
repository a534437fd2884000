#pragma once

// A database in memory and its prepared statements, as little of SQLite as the benchmarks need.
// All throw std::runtime_error with SQLite's own words.

#include <cstdint>
#include <memory>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace dmm::bench {

class Statement final {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  std::size_t parameters() const;
  /// Parameters are counted from 0.
  void bind(std::size_t parameter, std::uint32_t value);
  /// Runs a statement that gives no rows.
  void run();
  /// The next row; false, and ready to be bound again, when there are no more.
  bool next();
  /// The columns of the row up to the first null.
  std::vector<std::uint32_t> row() const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database final {
 public:
  Database();
  /// Runs statements without results.
  void run(const char* sql);
  Statement prepare(const char* sql);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace dmm::bench
