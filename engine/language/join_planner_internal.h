#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/language/language.h"

namespace dmm::engine::internal {

/// What a `@join` stage says.
struct JoinStage {
  std::vector<std::string> hard;
  std::vector<std::string> soft;
  nlohmann::json predicate;
  /// Equality asked for by `index`: (input, key) twice, or nothing.
  std::vector<std::pair<std::string, nlohmann::json>> index;
};

/// Reads the argument of `@join`; inputs are those of the branch. throws Error.
JoinStage parse_join(const nlohmann::json& argument, const std::vector<std::string>& inputs);

/// Turns the stage into joins, left-deep: equalities become keys, conditions on one input move
/// below, the rest stays with the first join that knows all of its inputs. `used` is what later
/// stages read.
PlanPtr plan_join(const JoinStage& stage, const std::map<std::string, PlanPtr>& sources,
                  const Fields& used, const std::string& label, bool optimise);

}  // namespace dmm::engine::internal
