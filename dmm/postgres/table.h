#pragma once

// A table of a PostgreSQL database as a source of rows: the whole table first, then every committed
// change as it happens, in commit order, without polling the table. The table has to be watched
// (dmm/postgres/outbox.h, or `dmm postgres watch TABLE`).
//
//   auto songs = postgres::table({.connection = "postgresql://app@db/music",
//                                 .table = "songs",
//                                 .reader = "desired-songs"});
//
// Works with PostgreSQL 13 and newer. Needs a session of its own: not through a pool that gives
// out connections by transaction.

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "dmm/log.h"
#include "dmm/source.h"

namespace dmm::postgres {

struct TableOptions {
  /// For libpq: "host=... dbname=..." or "postgresql://...". What it leaves out comes from the
  /// environment (PGHOST, PGPASSFILE, ...). Its password is never logged.
  std::string connection = {};
  std::string schema = "public";
  /// As PostgreSQL spells it, without quotes: a table made by CREATE TABLE Songs is "songs".
  std::string table = {};
  /// The columns that name a row; empty: those it is watched with, which are its primary key unless
  /// said otherwise. If given, they must be those it is watched with.
  std::vector<std::string> key = {};
  /// Names who reads, for example the view: the outbox keeps what this reader has not read. Two
  /// readings of one table at a time should not share a name; if they do, no change is lost, but
  /// one of them may have to begin anew.
  std::string reader = {};
  /// Forget the reader when the reading ends: for whoever only looks.
  bool passing = false;
  /// How often the outbox is looked at when no notification comes.
  std::chrono::milliseconds poll = std::chrono::seconds(5);
  /// How often changes that every reader has read are removed from the outbox, a batch at a time.
  std::chrono::milliseconds clean = std::chrono::seconds(30);
  /// Readers that were not seen for so long are forgotten, so that the outbox does not grow for
  /// ever. If one comes back, its rows are in doubt.
  std::chrono::hours forget_readers = std::chrono::hours(7 * 24);
  /// Of one statement on the server; reading a table takes many statements.
  std::chrono::milliseconds statement_timeout = std::chrono::seconds(60);
  Logger logger = {};
};

/// A watched table as a source.
///
/// A row's key is the text of its key column, or a JSON array of its key columns without white
/// space. Its document is row_to_json(row): a member for each column, timestamps in UTC, bytea as
/// "\\x..." and numbers with all their digits. It may be larger or deeper than dmm accepts: that is
/// for its reader to refuse. A row's position is the snapshot of the batch it came with.
///
/// options   throws Error{invalid} DMM-0404 for an empty table or reader, a connection that libpq
///           cannot read, and durations that are not positive.
/// returns   a source whose read() throws Error{retry} DMM-0110 server not reachable;
///           {invalid} DMM-0111 access denied, DMM-0409 not watched, DMM-0410 no outbox or an old
///           one; {not_found} DMM-0407 no such table; {unsupported} DMM-0113 PostgreSQL older than
///           13, DMM-0411 outbox of a newer dmm. A reading meets loss of connection, restart and
///           failover of the server by itself. If the table is dropped or no longer watched while
///           it is read, that is told as a doubt, and the reading waits for it to come back.
/// threads   a reading has one thread and one connection of its own. Destroying it waits for the
///           statement that runs, at most `statement_timeout`.
std::shared_ptr<Source> table(TableOptions options);

}  // namespace dmm::postgres
