#pragma once

// What readings and the Outbox ask a database before they work with it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/postgres/session.h"

namespace dmm::postgres::internal {

/// The version of the schema `dmm`; 0 if there is none.
int schema_version(pqxx::transaction_base& transaction);

/// Throws Error{invalid} DMM-0410 no outbox or an old one, {unsupported} DMM-0411 a newer one.
void require_outbox(pqxx::transaction_base& transaction);

/// A table as the catalogue of the database has it.
struct TableFacts {
  std::string name;          ///< quoted for SQL, with its schema
  std::int64_t watched = 0;  ///< id in dmm.watched; 0: it is not watched
  bool told = false;         ///< its triggers are there and enabled
  bool partitioned = false;
  std::vector<std::string> key;  ///< its key columns, if it is watched
};

/// Throws Error{not_found} DMM-0407 if there is no such table.
TableFacts find_table(pqxx::transaction_base& transaction, const std::string& schema,
                      const std::string& table);

/// The names in a JSON array of texts, as the server wrote it.
std::vector<std::string> names_of(std::string_view json_array);
/// The other way round.
std::string json_of(const std::vector<std::string>& names);

/// A name of the database for people: no control characters, not endless.
std::string shown(const std::string& schema, const std::string& table);

}  // namespace dmm::postgres::internal
