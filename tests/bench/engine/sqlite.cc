#include "tests/bench/engine/sqlite.h"

#include <sqlite3.h>

#include <stdexcept>
#include <string>

namespace dmm::bench {
namespace {

[[noreturn]] void fail(sqlite3* database) {
  throw std::runtime_error(std::string("SQLite: ") + sqlite3_errmsg(database));
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

std::size_t Statement::parameters() const {
  return static_cast<std::size_t>(sqlite3_bind_parameter_count(statement_.get()));
}

void Statement::bind(std::size_t parameter, std::uint32_t value) {
  if (sqlite3_bind_int64(statement_.get(), static_cast<int>(parameter) + 1, value) != SQLITE_OK) {
    fail(sqlite3_db_handle(statement_.get()));
  }
}

void Statement::run() {
  if (next()) throw std::runtime_error("SQLite: a row that nobody asked for");
}

bool Statement::next() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) fail(sqlite3_db_handle(statement_.get()));
  sqlite3_reset(statement_.get());
  return false;
}

std::vector<std::uint32_t> Statement::row() const {
  std::vector<std::uint32_t> words;
  for (int i = 0; i < sqlite3_column_count(statement_.get()); ++i) {
    if (sqlite3_column_type(statement_.get(), i) == SQLITE_NULL) break;
    words.push_back(static_cast<std::uint32_t>(sqlite3_column_int64(statement_.get(), i)));
  }
  return words;
}

void Database::Close::operator()(sqlite3* database) const {
  // The statements outlive the database in no order in particular.
  sqlite3_close_v2(database);
}

Database::Database() {
  sqlite3* database = nullptr;
  const int code = sqlite3_open(":memory:", &database);
  database_.reset(database);
  if (code != SQLITE_OK) fail(database);
}

void Database::run(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    fail(database_.get());
  }
}

Statement Database::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement,
                         nullptr) != SQLITE_OK) {
    fail(database_.get());
  }
  return Statement(statement);
}

}  // namespace dmm::bench
