// The first half of a Reading: all rows of the table, and whether the rows that were there at its
// baseline are still accounted for.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/postgres/queries_internal.h"
#include "dmm/postgres/reading.h"

namespace dmm::postgres::internal {

namespace {

// What was known when the table was read before.
struct Remembered {
  std::string system;
  std::string database;
  std::int64_t watched = 0;
  std::string snapshot;
  std::int64_t rows = 0;
  std::int64_t marks = 0;
};

bool is_snapshot(const std::string& text) {
  return text.size() < 100'000 && text.find_first_not_of("0123456789:,") == std::string::npos &&
         std::count(text.begin(), text.end(), ':') == 2;
}

std::optional<Remembered> remembered_of(const nlohmann::json& baseline) {
  try {
    Remembered was{.system = baseline.at("system").get<std::string>(),
                   .database = baseline.at("database").get<std::string>(),
                   .watched = baseline.at("watched").get<std::int64_t>(),
                   .snapshot = baseline.at("snapshot").get<std::string>(),
                   .rows = baseline.at("rows").get<std::int64_t>(),
                   .marks = baseline.at("marks").get<std::int64_t>()};
    if (is_snapshot(was.snapshot)) return was;
  } catch (const nlohmann::json::exception&) {  // not written by us: a doubt says so
  }
  return std::nullopt;
}

std::string key_expression(const pqxx::transaction_base& transaction,
                           const std::vector<std::string>& key) {
  if (key.size() == 1) {
    return fmt::format("to_jsonb(t.{}) #>> '{{}}'", transaction.quote_name(key.front()));
  }
  std::string text = "'['";
  for (std::size_t i = 0; i < key.size(); ++i) {
    text += fmt::format("{} || to_jsonb(t.{})::text", i == 0 ? "" : " || ','",
                        transaction.quote_name(key[i]));
  }
  return text + " || ']'";
}

// Why rows may be missing, if the changes since do not account for all that was there.
std::optional<std::string> unaccounted(pqxx::transaction_base& transaction, std::int64_t watched,
                                       const std::string& snapshot, std::int64_t rows_then,
                                       std::int64_t rows_now) {
  const pqxx::row since = transaction.exec_params1(kSince, watched, snapshot);
  if (!since[2].is_null()) {
    return fmt::format("rows were lost since it was last read: {}", since[2].c_str());
  }
  const std::int64_t expected = rows_then + since[1].as<std::int64_t>();
  if (since[0].as<bool>() && rows_now < expected) {
    return fmt::format("{} rows are there, but {} should be; nobody deleted the others one by one",
                       rows_now, expected);
  }
  return std::nullopt;
}

}  // namespace

void Reading::load(Session& session) {
  const bool anew = void_ || told_anything_;
  if (void_ && void_->doubt) sink_.on_doubt(void_->reason);
  if (anew) {
    sink_.on_restart(void_ ? void_->reason : "the connection was lost while the table was read");
  }
  void_.reset();
  told_anything_ = false;

  TableFacts facts;
  bool known = false;
  {
    pqxx::nontransaction transaction(session.connection());
    facts = find_table(transaction, options_.schema, options_.table);
    // From now on the outbox keeps what this reader has not read.
    known = !transaction.exec_params(kGreet, options_.reader, facts.watched).empty();
    if (!known) transaction.exec_params(kRegister, options_.reader, facts.watched);
  }
  pqxx::transaction<pqxx::repeatable_read, pqxx::read_only> transaction(session.connection());
  // Before the snapshot is taken: a TRUNCATE between the two would show as an empty table.
  transaction.exec(fmt::format("LOCK TABLE {} IN ACCESS SHARE MODE", facts.name));
  const pqxx::result origin = transaction.exec_params(kOrigin, facts.watched);
  if (origin.empty() || !origin[0][5].as<bool>()) {
    throw Error(code::table_not_watched, fmt::format("table {} is not watched", name_));
  }
  watched_ = facts.watched;
  shape_ = origin[0][4].as<std::string>();
  cursor_ = Cursor{};
  cursor_.told = origin[0][0].as<std::string>();
  load_rows(transaction, facts, origin[0][1].as<std::int64_t>());
  const auto doubt = doubt_of_baseline(transaction, origin[0], known);
  transaction.commit();

  mark(session, cursor_.told);
  if (doubt) sink_.on_doubt(*doubt);
  {
    const std::lock_guard lock(mutex_);
    baseline_ = {{"system", origin[0][2].as<std::string>()},
                 {"database", origin[0][3].as<std::string>()},
                 {"watched", watched_},
                 {"snapshot", cursor_.told},
                 {"rows", cursor_.rows},
                 {"marks", cursor_.marks}};
  }
  loaded_ = true;
  failures_ = 0;
  sink_.on_loaded();
  sink_.on_complete();
  logger_.info("table loaded", {{"rows", cursor_.rows}, {"snapshot", cursor_.told}});
}

void Reading::load_rows(pqxx::transaction_base& transaction, const TableFacts& facts,
                        std::int64_t microseconds) {
  const auto at = std::chrono::system_clock::time_point(std::chrono::microseconds(microseconds));
  transaction.exec(fmt::format(kDeclareRows, key_expression(transaction, facts.key),
                               facts.partitioned ? "" : "ONLY ", facts.name));
  for (;;) {
    const std::size_t size = fetch_size();
    const pqxx::result rows = transaction.exec(fmt::format("FETCH {} FROM dmm_rows", size));
    for (const auto& row : rows) {
      wait_for_grant();
      row_bytes_ = (row_bytes_ * 15 + row[0].size() + row[1].size()) / 16;
      sink_.on_row({.key = row[0].as<std::string>(),
                    .document = row[1].as<std::string>(),
                    .position = cursor_.told,
                    .changed_at = at});
      told_anything_ = true;
      use_grant();
      ++cursor_.rows;
    }
    if (rows.size() < size) return;
  }
}

// Compares with the last baseline: our own, or the one that was given.
std::optional<std::string> Reading::doubt_of_baseline(pqxx::transaction_base& transaction,
                                                      const pqxx::row& origin, bool known) {
  const nlohmann::json before = baseline().is_null() ? remembered_ : baseline();
  if (before.is_null()) return std::nullopt;
  const auto was = remembered_of(before);
  if (!was) return "what was known of it when it was last read cannot be understood";
  if (was->system != origin[2].as<std::string>() || was->database != origin[3].as<std::string>()) {
    return "it is in another database than when it was last read";
  }
  if (was->watched != watched_) return "it was not watched all the time since it was last read";
  if (!known) return "its reader was forgotten, and with it what happened since";
  const pqxx::row reader = transaction.exec_params1(kReader, options_.reader, watched_);
  if (reader[2].as<std::int64_t>() < was->marks)
    return "the database went back to an earlier state";
  auto reason = unaccounted(transaction, watched_, was->snapshot, was->rows, cursor_.rows);
  if (!reason && !reader[1].is_null()) {
    reason = unaccounted(transaction, watched_, reader[0].as<std::string>(),
                         reader[1].as<std::int64_t>(), cursor_.rows);
  }
  return reason;
}

}  // namespace dmm::postgres::internal
