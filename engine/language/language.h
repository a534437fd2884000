/// The aggregation language: pipelines of stages, compiled to circuits.
///
/// The language itself is described in docs/reference/pipeline-language.md.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/circuit.h"
#include "engine/fields.h"

namespace dmm::engine {

/// Connects a name of the outside (a topic) with the name that the program uses.
struct Binding {
  std::string name;
  std::string logical;  ///< empty: same as name
};

struct CompileOptions {
  std::vector<Binding> inputs = {{"input", ""}};
  std::vector<Binding> outputs = {{"output", ""}};
  std::string name = "aggregation";
  HostFunctions functions;
  /// False leaves the plan as it was written: what the optimised one is tested against.
  bool optimise = true;
};

/// A step of a plan. Plans are trees that may share parts.
struct PlanNode {
  enum class Type : std::uint8_t {
    source,
    pick,
    select,
    project,
    unwind,
    distinct,
    group,
    join,
    unite
  };
  Type type = Type::source;
  std::string label;  ///< id of the circuit node
  std::vector<std::shared_ptr<PlanNode>> inputs;
  nlohmann::json argument;  ///< predicate, projection or path
  std::string source;       ///< name of the input
  Fields fields = Fields::all();
  // join
  std::vector<std::string> left_names;
  std::string right_name;
  struct KeyPair {
    nlohmann::json left;
    nlohmann::json right;
    bool left_on_document = false;
    bool right_on_document = false;
  };
  std::vector<KeyPair> keys;
  nlohmann::json residual;  ///< null: nothing
  bool soft = false;
  bool only_unmatched = false;  ///< of a soft join: what comes next drops all pairs
  // group
  nlohmann::json key;
  nlohmann::json value;
  bool group_distinct = false;
  bool values = true;
  bool documents = true;
  struct Aggregate {
    std::string fold;
    nlohmann::json element;  ///< null: the value itself
    std::int64_t k = 0;
  };
  std::vector<Aggregate> aggregates;
  std::vector<nlohmann::json> filters;
  nlohmann::json projection;  ///< null: the row itself
};
using PlanPtr = std::shared_ptr<PlanNode>;

/// A plan: one tree for each output.
struct Plan {
  std::vector<std::pair<std::string, PlanPtr>> outputs;  ///< by name of the outside
  std::vector<std::string> inputs;                       ///< all of them, used or not
  /// What of each input's documents is used anywhere.
  std::map<std::string, Fields, std::less<>> fields;

  std::string text() const;
  nlohmann::json json() const;
};

/// Parses a program and makes its plan. throws Error: "pipeline parse error at stage[i] @op,
/// argument …: cause", or what is wrong with the branches.
Plan make_plan(const nlohmann::json& program, const CompileOptions& options);

/// The circuit of a plan, over whole collections. throws Error.
Circuit make_circuit(const Plan& plan, const CompileOptions& options);

/// The expression of a `@project` argument: an object, or a list of fragments applied in order.
/// throws Error.
ExpressionPtr compile_projection(const nlohmann::json& source, const HostFunctions* functions);

}  // namespace dmm::engine
