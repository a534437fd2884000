#pragma once

// The tables of resources in the schema `dmm`, by versions from 1 on without a gap. A published
// migration never changes.

#include <optional>
#include <string>

namespace dmm::resource {

struct MigrationStatus {
  int version = 0;  ///< 0: there are none
  int newest = 0;   ///< the version that this library brings
};

/// Throws as postgres::Outbox for the server.
MigrationStatus migration_status(const std::string& connection);

/// Brings the tables to `version`, or to the newest: up or down, in one transaction. Several may
/// run at a time: they wait for each other. version   0: removes them with all resources. returns
/// the version there was before. throws    Error{unsupported} DMM-0805 if they are newer than this
/// library; {invalid} DMM-0404 for a
///           version that is not, DMM-0111 for a role that may not do it.
int migrate(const std::string& connection, std::optional<int> version = std::nullopt);

/// What migrate() runs on an empty database, as a script for psql.
std::string migration_script();

}  // namespace dmm::resource
