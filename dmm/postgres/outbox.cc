#include "dmm/postgres/outbox.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/postgres/database.h"
#include "dmm/postgres/migrations.h"
#include "dmm/postgres/migrations_internal.h"

namespace dmm::postgres {

using internal::guarded;
using internal::Session;
using internal::shown;

namespace {

using namespace std::chrono_literals;

// DDL on the user's tables waits for those who use them, and everybody else waits behind it.
constexpr auto kLockTimeout = 5s;

constexpr auto kTablesQuery =
    "SELECT w.id, CASE WHEN c.oid IS NULL THEN w.relation::oid::text"
    "   ELSE format('%I.%I', n.nspname, c.relname) END,"
    "  to_json(w.key_columns)::text, dmm.is_told(w.id),"
    "  (SELECT count(*) FROM dmm.change AS x WHERE x.watched = w.id)"
    " FROM dmm.watched AS w LEFT JOIN pg_class AS c ON c.oid = w.relation"
    " LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace ORDER BY 2";

constexpr auto kReadersQuery =
    "SELECT r.name, CASE WHEN c.oid IS NULL THEN w.relation::oid::text"
    "   ELSE format('%I.%I', n.nspname, c.relname) END,"
    "  (SELECT count(*) FROM dmm.change AS x WHERE x.watched = w.id"
    "    AND x.xid >= pg_snapshot_xmin(r.snapshot)"
    "    AND NOT pg_visible_in_snapshot(x.xid, r.snapshot)),"
    "  greatest(0, extract(epoch FROM now() - r.seen_at))::bigint"
    " FROM dmm.reader AS r JOIN dmm.watched AS w ON w.id = r.watched"
    " LEFT JOIN pg_class AS c ON c.oid = w.relation"
    " LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace ORDER BY 1, 2";

void apply(pqxx::transaction_base& transaction, int from, int to) {
  const auto all = migrations();
  for (int version = from + 1; version <= to; ++version) {
    const Migration& migration = all[static_cast<std::size_t>(version - 1)];
    transaction.exec(std::string(migration.up));
    transaction.exec(internal::record_of(migration));
  }
  for (int version = from; version > to; --version) {
    transaction.exec(std::string(all[static_cast<std::size_t>(version - 1)].down));
    transaction.exec_params("DELETE FROM dmm.migration WHERE version = $1", version);
  }
}

}  // namespace

struct Outbox::State {
  explicit State(const std::string& connection)
      : session(connection, {.application = "dmm outbox",
                             .statement_timeout = 10min,
                             .lock_timeout = kLockTimeout}) {}
  Session session;
};

Outbox::Outbox(const std::string& connection) : state_(std::make_unique<State>(connection)) {}
Outbox::Outbox(Outbox&&) noexcept = default;
Outbox& Outbox::operator=(Outbox&&) noexcept = default;
Outbox::~Outbox() = default;

int Outbox::migrate(std::optional<int> version) {
  const int newest = migrations().back().version;
  const int wanted = version.value_or(newest);
  require(wanted >= 0 && wanted <= newest, code::bad_option,
          fmt::format("there is no version {} of the schema dmm, only 0 to {}", wanted, newest));
  return guarded(fmt::format("migrating the schema dmm to version {}", wanted), [&] {
    pqxx::work transaction(state_->session.connection());
    if (wanted == 0 && internal::schema_version(transaction) == 0) return 0;
    transaction.exec(std::string(internal::kBeforeMigrations));
    const int before = internal::schema_version(transaction);
    if (before > newest) {
      throw Error(code::outbox_newer, fmt::format("the schema dmm of the database has version {}, "
                                                  "this program knows {}",
                                                  before, newest));
    }
    apply(transaction, before, wanted);
    if (wanted == 0) {
      // What is not ours in there stays, and the schema with it.
      transaction.exec(
          "DROP TABLE dmm.migration; DO $$ BEGIN DROP SCHEMA dmm;"
          " EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$");
    }
    transaction.commit();
    return before;
  });
}

void Outbox::watch(const std::string& schema, const std::string& table,
                   const WatchOptions& options) {
  guarded(fmt::format("watching table {}", shown(schema, table)), [&] {
    pqxx::work transaction(state_->session.connection());
    internal::require_outbox(transaction);
    const auto facts = internal::find_table(transaction, schema, table);
    transaction.exec_params(
        "SELECT dmm.watch($1::regclass, CASE WHEN $2 <> '[]' THEN"
        " ARRAY(SELECT json_array_elements_text($2::json)) END, $3)",
        facts.name, internal::json_of(options.key), options.notify);
    transaction.commit();
  });
}

bool Outbox::unwatch(const std::string& schema, const std::string& table) {
  return guarded(fmt::format("unwatching table {}", shown(schema, table)), [&] {
    pqxx::work transaction(state_->session.connection());
    internal::require_outbox(transaction);
    const auto facts = internal::find_table(transaction, schema, table);
    const bool was =
        transaction.exec_params1("SELECT dmm.unwatch($1::regclass)", facts.name)[0].as<bool>();
    transaction.commit();
    return was;
  });
}

OutboxStatus Outbox::status() {
  return guarded("asking for the state of the outbox", [&] {
    pqxx::read_transaction transaction(state_->session.connection());
    OutboxStatus status;
    status.version = internal::schema_version(transaction);
    status.newest = migrations().back().version;
    if (status.version != status.newest) return status;
    for (const auto& row : transaction.exec(kTablesQuery)) {
      status.tables.push_back({.id = row[0].as<std::int64_t>(),
                               .name = row[1].as<std::string>(),
                               .key = internal::names_of(row[2].as<std::string>()),
                               .told = row[3].as<bool>(),
                               .changes = row[4].as<std::int64_t>()});
    }
    for (const auto& row : transaction.exec(kReadersQuery)) {
      status.readers.push_back({.name = row[0].as<std::string>(),
                                .table = row[1].as<std::string>(),
                                .unread = row[2].as<std::int64_t>(),
                                .unseen = std::chrono::seconds(row[3].as<std::int64_t>())});
    }
    return status;
  });
}

std::int64_t Outbox::clean(std::chrono::hours unseen) {
  return guarded("cleaning the outbox", [&] {
    std::int64_t total = 0;
    for (;;) {  // each batch is a transaction of its own
      pqxx::work transaction(state_->session.connection());
      internal::require_outbox(transaction);
      const auto gone = transaction
                            .exec_params1("SELECT dmm.clean(10000, make_interval(hours => $1))",
                                          unseen.count())[0]
                            .as<std::int64_t>();
      transaction.commit();
      total += gone;
      if (gone == 0) return total;
    }
  });
}

}  // namespace dmm::postgres
