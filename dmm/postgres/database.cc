#include "dmm/postgres/database.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "dmm/json.h"
#include "dmm/postgres/migrations.h"

namespace dmm::postgres::internal {

int schema_version(pqxx::transaction_base& transaction) {
  const auto there =
      transaction.exec1("SELECT to_regclass('dmm.migration') IS NOT NULL")[0].as<bool>();
  if (!there) return 0;
  return transaction.exec1("SELECT coalesce(max(version), 0) FROM dmm.migration")[0].as<int>();
}

void require_outbox(pqxx::transaction_base& transaction) {
  const int version = schema_version(transaction);
  const int newest = migrations().back().version;
  if (version > newest) {
    throw Error(code::outbox_newer, fmt::format("the schema dmm of the database has version {}, "
                                                "this program knows {}",
                                                version, newest));
  }
  if (version < newest) {
    throw Error(code::outbox_missing,
                version == 0 ? "the database has no schema dmm"
                             : fmt::format("the schema dmm of the database has version {}, this "
                                           "program needs {}",
                                           version, newest));
  }
}

TableFacts find_table(pqxx::transaction_base& transaction, const std::string& schema,
                      const std::string& table) {
  // libpq would take a part for the whole.
  require((schema + table).find('\0') == std::string::npos, code::bad_option,
          fmt::format("the name {} holds a NUL byte", shown(schema, table)));
  const pqxx::result found = transaction.exec_params(
      "SELECT format('%I.%I', n.nspname, c.relname), coalesce(w.id, 0),"
      "  w.id IS NOT NULL AND dmm.is_told(w.id), c.relkind = 'p', to_json(w.key_columns)::text"
      " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
      " LEFT JOIN dmm.watched AS w ON w.relation = c.oid"
      " WHERE n.nspname = $1 AND c.relname = $2"
      "  AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')",
      schema, table);
  if (found.empty()) {
    throw Error(code::table_missing, fmt::format("there is no table {}", shown(schema, table)));
  }
  const pqxx::row row = found[0];
  TableFacts facts;
  facts.name = row[0].as<std::string>();
  facts.watched = row[1].as<std::int64_t>();
  facts.told = row[2].as<bool>();
  facts.partitioned = row[3].as<bool>();
  if (!row[4].is_null()) facts.key = names_of(row[4].as<std::string>());
  return facts;
}

std::vector<std::string> names_of(std::string_view json_array) {
  return nlohmann::json::parse(json_array).get<std::vector<std::string>>();
}

std::string json_of(const std::vector<std::string>& names) {
  return nlohmann::json(names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string shown(const std::string& schema, const std::string& table) {
  return printable(schema, 100) + "." + printable(table, 100);
}

}  // namespace dmm::postgres::internal
