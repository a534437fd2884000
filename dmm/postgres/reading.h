#pragma once

// A Reading tells a watched table: all rows of one snapshot, then batch after batch what changed.
//
// Invariants:
//   1. A batch is what is visible in its target snapshot and was not in the one told before, in
//      the order of ids. docs/decisions/0008 says why that is the order of commits for every row.
//   2. A target is marked in dmm.reader by a committed transaction before any of it is told. So
//      no crash of the server can undo it, and a database without the mark has lost history.
//   3. A batch that was interrupted goes on behind the last change that was told.
//
// One thread, which owns session and cursor. grant(), baseline() and the destructor: any thread.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "dmm/postgres/database.h"
#include "dmm/postgres/table.h"
#include "dmm/source.h"

namespace dmm::postgres::internal {

class Reading final : public SourceReading {
 public:
  /// session   connected and checked, see open_table().
  Reading(const TableOptions& options, std::unique_ptr<Session> session, nlohmann::json baseline,
          SourceSink& sink);
  ~Reading() override;

  void grant(std::size_t rows) override;
  nlohmann::json baseline() const override;

 private:
  /// Where a reading stands.
  struct Cursor {
    std::string told;          ///< snapshot up to which everything was told
    std::string target;        ///< of a batch that was begun; empty: none
    std::int64_t last_id = 0;  ///< told of that batch
    std::int64_t rows = 0;     ///< of the table, as of what was told
    std::int64_t marks = 0;    ///< in dmm.reader
  };
  /// Thrown when what was told is void.
  struct Restart {
    std::string reason;
    bool doubt = false;
  };
  /// Thrown when the reading is to end.
  struct Stopped {};

  void run(std::unique_ptr<Session> session) noexcept;
  void read_until_stopped(std::unique_ptr<Session>& session) noexcept;
  void work(std::unique_ptr<Session>& session);
  void recover(const Error& error);
  void note(Restart restart);

  void load(Session& session);
  void load_rows(pqxx::transaction_base& transaction, const TableFacts& facts,
                 std::int64_t microseconds);
  std::optional<std::string> doubt_of_baseline(pqxx::transaction_base& transaction,
                                               const pqxx::row& origin, bool known);
  void mark(Session& session, const std::string& snapshot);

  void follow(Session& session);
  bool look(pqxx::transaction_base& transaction);
  void read_batch(Session& session);
  void tell(const pqxx::row& row);
  void tidy(Session& session);

  /// How many rows to ask for: at least one, so that the end is seen without a grant.
  std::size_t fetch_size() const;
  void wait_for_grant();
  void use_grant();
  void check_stop() const;
  void wake();
  void drain_wake();

  const TableOptions options_;
  const std::string name_;
  SourceSink& sink_;
  Logger logger_;
  const nlohmann::json remembered_;  ///< the baseline that was given

  // Of the thread.
  Cursor cursor_;
  std::int64_t watched_ = 0;
  std::string shape_;  ///< of the table's columns, when it was loaded
  bool loaded_ = false;
  bool told_anything_ = false;
  int failures_ = 0;               ///< since the last load, batch or wait that went well
  std::optional<Restart> void_;    ///< what was told is void, and this was not yet said
  std::size_t row_bytes_ = 1'000;  ///< average of the last fetch
  std::chrono::steady_clock::time_point tidied_;

  const int wake_;                 ///< an eventfd: granted or stop
  std::atomic<bool> stop_{false};  // relaxed would do: the eventfd orders
  std::atomic<std::size_t> granted_{0};
  mutable std::mutex mutex_;
  nlohmann::json baseline_;  ///< guarded by mutex_

  std::thread thread_;  // last: it uses all of the above
};

/// Connects for a reading, checks outbox and table, and listens. Throws as postgres::table() says.
std::unique_ptr<Session> open_table(const TableOptions& options);

}  // namespace dmm::postgres::internal
