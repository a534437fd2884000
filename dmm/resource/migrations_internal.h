#pragma once

#include <span>
#include <string_view>

#include <pqxx/pqxx>

namespace dmm::resource::internal {

struct Migration {
  int version = 0;
  std::string_view name;
  std::string_view up;    ///< SQL that brings version - 1 to version
  std::string_view down;  ///< SQL that takes it back
};

/// All migrations, in order. Embedded from dmm/resource/migrations.
std::span<const Migration> migrations() noexcept;

/// 0: there are no tables.
int version_of(pqxx::transaction_base& transaction);

/// Throws Error{invalid} DMM-0804 no tables or old ones, {unsupported} DMM-0805 newer ones.
void require_migrated(pqxx::transaction_base& transaction);

}  // namespace dmm::resource::internal
