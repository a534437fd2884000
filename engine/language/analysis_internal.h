#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/fields.h"
#include "engine/language/language.h"

/// What can be told from the JSON form of an expression without running it.
namespace dmm::engine::internal {

/// Adds the fields of the document that the expression may read; all, where that cannot be told.
void add_used_fields(const nlohmann::json& expression, Fields& fields);
/// The same with `$$` standing for the document as well (key and value of a group).
void add_used_fields_of_both(const nlohmann::json& expression, Fields& fields);
/// The same for the argument of `@project`.
void add_projection_fields(const nlohmann::json& projection, Fields& fields);

/// The names that the paths of a join predicate start with; nothing, when a path has none.
std::optional<std::set<std::string>> namespaces(const nlohmann::json& expression);

/// The expression with `$.name.rest` turned into `$.rest`; nothing, when it uses anything else.
std::optional<nlohmann::json> without_namespace(const nlohmann::json& expression,
                                                const std::string& name);

/// True when the expression cannot fail but for a missing field, and gives a boolean.
bool is_total_condition(const nlohmann::json& expression);

/// The parts of nested `@and`s, without literal `true`.
std::vector<nlohmann::json> conjuncts(const nlohmann::json& predicate);
nlohmann::json conjunction(const std::vector<nlohmann::json>& parts);

/// Replaces folds over `$.values` by fields of the row that the group keeps up to date. Adds the
/// folds to `node`. returns false when the expression needs the whole row.
bool extract_aggregates(nlohmann::json& expression, PlanNode& node);
/// The same for the argument of `@project`.
bool extract_projection_aggregates(nlohmann::json& projection, PlanNode& node);

}  // namespace dmm::engine::internal
