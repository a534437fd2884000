#pragma once

// The Outbox is what dmm adds to a database so that tables can be read as they change: the schema
// `dmm` with a few tables and functions, and two triggers on every watched table. It is changed by
// migrations only. docs/reference/postgresql-outbox.md has all of it.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace dmm::postgres {

struct WatchOptions {
  /// The columns that name a row; empty: the primary key. They need a unique index of exactly these
  /// columns that is checked at once (not deferrable), and must not be null.
  std::vector<std::string> key = {};
  /// Wake readers with NOTIFY. Without it they see changes at their next poll; PostgreSQL does not
  /// let a transaction that notified be prepared for two-phase commit.
  bool notify = true;
};

/// A watched table.
struct WatchedTable {
  std::int64_t id = 0;
  std::string name;  ///< with its schema, quoted where needed; the number of a table that is gone
  std::vector<std::string> key;
  bool told = false;         ///< its triggers are there and enabled
  std::int64_t changes = 0;  ///< in the outbox, approximately
};

/// Who reads a watched table.
struct OutboxReader {
  std::string name;
  std::string table;
  std::int64_t unread = 0;  ///< changes in the outbox that it has not read
  std::chrono::seconds unseen{};
};

struct OutboxStatus {
  int version = 0;  ///< of the schema; 0: there is none
  int newest = 0;   ///< the version that this library brings
  std::vector<WatchedTable> tables;
  std::vector<OutboxReader> readers;
};

/// The outbox of one database. One connection, opened by the constructor; not thread-safe. Several
/// programs may migrate and watch at the same time: they wait for each other.
class Outbox final {
 public:
  /// connection   for libpq. Throws as postgres::table's read() does for the server.
  explicit Outbox(const std::string& connection);
  Outbox(Outbox&&) noexcept;
  Outbox& operator=(Outbox&&) noexcept;
  ~Outbox();

  /// Brings the schema to `version`, or to the newest: up or down, in one transaction.
  /// version   0: removes the schema and all triggers; the tables of the user stay as they are.
  /// returns   the version there was before.
  /// throws    Error{unsupported} DMM-0411 if the schema is newer than this library; {invalid}
  ///           DMM-0111 for a role that may not do it, DMM-0404 for a version that is not.
  int migrate(std::optional<int> version = std::nullopt);

  /// Makes a table tell its changes from now on. A table that is watched in this way already is
  /// left as it is. Needs the owner of the table.
  /// throws   Error{not_found} DMM-0407 no such table; {invalid} DMM-0408 no key, DMM-0410 not
  ///          migrated, DMM-0412 a view, a foreign or an unlogged table; {retry} DMM-0112 others
  ///          held the table for 5 s.
  void watch(const std::string& schema, const std::string& table, const WatchOptions& options = {});
  /// Removes the triggers and what the outbox holds of the table.
  /// returns   whether it was watched.
  bool unwatch(const std::string& schema, const std::string& table);

  OutboxStatus status();
  /// Removes changes that every reader has read, and readers that were not seen for `unseen`.
  /// Readings do this by themselves. returns   how many changes were removed.
  std::int64_t clean(std::chrono::hours unseen = std::chrono::hours(7 * 24));

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dmm::postgres
