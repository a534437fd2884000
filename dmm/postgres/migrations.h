#pragma once

// The versions of the schema `dmm`, from 1 on without a gap. A published migration never changes.

#include <span>
#include <string>
#include <string_view>

namespace dmm::postgres {

struct Migration {
  int version = 0;
  std::string_view name;  ///< "outbox"
  std::string_view up;    ///< SQL that brings version - 1 to version
  std::string_view down;  ///< SQL that takes it back
};

/// All migrations, in order.
std::span<const Migration> migrations() noexcept;

/// What Outbox::migrate() runs on an empty database, as a script for psql, for those who let only
/// their own tools change a schema.
std::string migration_script();

}  // namespace dmm::postgres
