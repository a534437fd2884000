#pragma once

#include <string>
#include <string_view>

#include "dmm/postgres/migrations.h"

namespace dmm::postgres::internal {

/// Takes the lock of migrations, for the transaction, and makes the table that lists them.
extern const std::string_view kBeforeMigrations;

/// SQL that notes a migration as done.
std::string record_of(const Migration& migration);

}  // namespace dmm::postgres::internal
