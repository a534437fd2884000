// Random relational queries, each as a pipeline and as SQL, made so that both mean the same: nulls
// are compared with IS, everything that is computed with has a value, and sums are exact in double.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "random.h"

namespace dmm::engine::testing {

struct RandomQuery {
  nlohmann::json pipeline;  ///< over the inputs a and b, with the one output "output"
  std::string sql;          ///< over the tables a and b
};

/// Columns of both tables: k integer, n number in halves, s text; each may be null.
/// depth   levels of the tree of operators.
RandomQuery random_query(Random& random, std::size_t depth);

/// A row of one of the tables.
nlohmann::json random_row(Random& random);

}  // namespace dmm::engine::testing
