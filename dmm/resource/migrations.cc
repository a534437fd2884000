#include "dmm/resource/migrations.h"

#include <fmt/format.h>

#include "dmm/postgres/session.h"
#include "dmm/resource/migrations_internal.h"

namespace dmm::resource {

using postgres::internal::guarded;
using postgres::internal::Session;

namespace internal {

namespace {

constexpr const char* kBefore =
    "SELECT pg_advisory_xact_lock(6581613, 3);\n"
    "CREATE SCHEMA IF NOT EXISTS dmm;\n"
    "CREATE TABLE IF NOT EXISTS dmm.resource_migration (\n"
    "  version integer PRIMARY KEY,\n"
    "  name text NOT NULL,\n"
    "  applied_at timestamptz NOT NULL DEFAULT now()\n"
    ");\n";

std::string record_of(const Migration& migration) {
  return fmt::format("INSERT INTO dmm.resource_migration (version, name) VALUES ({}, '{}');\n",
                     migration.version, migration.name);
}

void refuse_newer(int version) {
  const int newest = migrations().back().version;
  if (version <= newest) return;
  throw Error(code::resources_newer,
              fmt::format("the tables of resources have version {}, this program knows {}", version,
                          newest));
}

}  // namespace

int version_of(pqxx::transaction_base& transaction) {
  const auto there =
      transaction.exec1("SELECT to_regclass('dmm.resource_migration') IS NOT NULL")[0].as<bool>();
  if (!there) return 0;
  return transaction.exec1("SELECT coalesce(max(version), 0) FROM dmm.resource_migration")[0]
      .as<int>();
}

void require_migrated(pqxx::transaction_base& transaction) {
  const int version = version_of(transaction);
  const int newest = migrations().back().version;
  refuse_newer(version);
  if (version == newest) return;
  throw Error(code::resources_not_migrated,
              version == 0 ? "the database has no tables of resources"
                           : fmt::format("the tables of resources have version {}, this program "
                                         "needs {}",
                                         version, newest));
}

}  // namespace internal

namespace {

void apply(pqxx::transaction_base& transaction, int from, int to) {
  const auto all = internal::migrations();
  for (int version = from + 1; version <= to; ++version) {
    const internal::Migration& migration = all[static_cast<std::size_t>(version - 1)];
    transaction.exec(std::string(migration.up));
    transaction.exec(internal::record_of(migration));
  }
  for (int version = from; version > to; --version) {
    transaction.exec(std::string(all[static_cast<std::size_t>(version - 1)].down));
    transaction.exec_params("DELETE FROM dmm.resource_migration WHERE version = $1", version);
  }
}

}  // namespace

MigrationStatus migration_status(const std::string& connection) {
  Session session(connection, {.application = "dmm resource"});
  return guarded("asking for the version of the tables of resources", [&] {
    pqxx::read_transaction transaction(session.connection());
    return MigrationStatus{internal::version_of(transaction),
                           internal::migrations().back().version};
  });
}

int migrate(const std::string& connection, std::optional<int> version) {
  const int newest = internal::migrations().back().version;
  const int wanted = version.value_or(newest);
  require(wanted >= 0 && wanted <= newest, code::bad_option,
          fmt::format("there is no version {} of the tables of resources, only 0 to {}", wanted,
                      newest));
  Session session(connection, {.application = "dmm resource migrate",
                               .statement_timeout = std::chrono::minutes(10),
                               .lock_timeout = std::chrono::seconds(30)});
  return guarded(fmt::format("migrating the tables of resources to version {}", wanted), [&] {
    pqxx::work transaction(session.connection());
    if (wanted == 0 && internal::version_of(transaction) == 0) return 0;
    transaction.exec(internal::kBefore);
    const int before = internal::version_of(transaction);
    internal::refuse_newer(before);
    apply(transaction, before, wanted);
    if (wanted == 0) {
      // The outbox, or what is not ours, may be in there: then the schema stays.
      transaction.exec(
          "DROP TABLE dmm.resource_migration; DO $$ BEGIN DROP SCHEMA dmm;"
          " EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$");
    }
    transaction.commit();
    return before;
  });
}

std::string migration_script() {
  std::string script = "BEGIN;\n";
  script += internal::kBefore;
  for (const internal::Migration& migration : internal::migrations()) {
    script += fmt::format("\n-- Version {}: {}.\n", migration.version, migration.name);
    script += migration.up;
    script += internal::record_of(migration);
  }
  return script + "COMMIT;\n";
}

}  // namespace dmm::resource
