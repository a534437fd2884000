#pragma once

// How SQLite keeps a workload: tables, what a row touches, and the result as queries.

#include <string>
#include <vector>

namespace dmm::bench {

struct SqlitePlan {
  /// Part of the result that an event can change: the rows of a query under a key.
  struct Touch {
    std::size_t query;
    std::vector<std::size_t> columns;  ///< of the event's row; the key
  };
  struct Input {
    const char* insert;  ///< parameters: the columns of the row
    const char* remove;  ///< nullptr: rows are never removed
    std::size_t columns;
    Touch touch;  ///< a query out of range: changes nothing
  };
  const char* schema;
  std::vector<Input> inputs;
  /// Give rows of the result for a key. A null ends a row.
  std::vector<const char*> queries;
  /// The whole result from all rows.
  const char* everything;
  /// Rows (a, b) with the same a, one after the other, mean one row (a, count, b, b, …).
  bool lists = false;
};

/// Throws std::invalid_argument for a workload that SQLite is not asked about.
const SqlitePlan& sqlite_plan(const std::string& workload);

}  // namespace dmm::bench
