#include "dmm/postgres/migrations.h"

#include <fmt/format.h>

#include "dmm/postgres/migrations_internal.h"

namespace dmm::postgres {

namespace internal {

const std::string_view kBeforeMigrations =
    "SELECT pg_advisory_xact_lock(6581613, 1);\n"
    "CREATE SCHEMA IF NOT EXISTS dmm;\n"
    "CREATE TABLE IF NOT EXISTS dmm.migration (\n"
    "  version integer PRIMARY KEY,\n"
    "  name text NOT NULL,\n"
    "  applied_at timestamptz NOT NULL DEFAULT now()\n"
    ");\n";

std::string record_of(const Migration& migration) {
  return fmt::format("INSERT INTO dmm.migration (version, name) VALUES ({}, '{}');\n",
                     migration.version, migration.name);
}

}  // namespace internal

std::string migration_script() {
  std::string script = "BEGIN;\n";
  script += internal::kBeforeMigrations;
  for (const Migration& migration : migrations()) {
    script += fmt::format("\n-- Version {}: {}.\n", migration.version, migration.name);
    script += migration.up;
    script += internal::record_of(migration);
  }
  return script + "COMMIT;\n";
}

}  // namespace dmm::postgres
