#include <nlohmann/json.hpp>

#include "engine/circuit.h"
#include "engine/error.h"
#include "engine/language/language.h"
#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

using nlohmann::json;

const json& member(const json& node, const char* name) {
  const auto it = node.find(name);
  if (it == node.end()) throw Error(std::string("\"") + name + "\" is missing");
  return *it;
}

// Keys of a join by hand are evaluated on the named sub-document of each side.
JoinSpec cartesian() {
  JoinSpec spec;
  spec.left.names = {"left"};
  spec.right.names = {"right"};
  spec.merge = true;
  return spec;
}

OperatorPtr equi_join(const json& node, const HostFunctions* functions) {
  JoinSpec spec = cartesian();
  spec.left.inside = member(node, "leftNs").get<std::string>();
  spec.right.inside = member(node, "rightNs").get<std::string>();
  spec.left.keys = {compile_expression(member(node, "leftKey"), functions)};
  spec.right.keys = {compile_expression(member(node, "rightKey"), functions)};
  spec.left.on_document = spec.right.on_document = {true};
  spec.source = {{"left", node["leftKey"]}, {"right", node["rightKey"]}};
  return make_join(std::move(spec));
}

OperatorPtr group_by(const json& node, const HostFunctions* functions) {
  GroupSpec spec;
  spec.key = compile_expression(member(node, "keyExpr"), functions);
  if (const auto it = node.find("valueExpr"); it != node.end() && !it->is_null())
    spec.value = compile_expression(*it, functions);
  spec.distinct = node.value("distinct", false);
  spec.source = {{"key", node["keyExpr"]}, {"distinct", spec.distinct}};
  return make_group(std::move(spec));
}

OperatorPtr operator_from_json(const json& node, const HostFunctions* functions) {
  const std::string type = member(node, "type").get<std::string>();
  if (type == "delay") return make_delay();
  if (type == "integrate") return make_integrate();
  if (type == "differentiate") return make_differentiate();
  if (type == "delta0") return make_delta0();
  if (type == "noop") return make_linear({1}, "noop");
  if (type == "negate") return make_linear({-1}, "negate");
  if (type == "plus" || type == "sum") return make_linear({1, 1}, "plus");
  if (type == "minus" || type == "subtract") return make_linear({1, -1}, "minus");
  if (type == "linear_combination")
    return make_linear(member(node, "coeffs").get<std::vector<std::int64_t>>(), type);
  if (type == "select")
    return make_select(compile_expression(member(node, "predicate"), functions), node["predicate"]);
  if (type == "project") {
    const json& source = member(node, "projection");
    return make_project(compile_projection(source, functions), source, is_volatile(source));
  }
  if (type == "unwind") return make_unwind(Path::parse(member(node, "field").get<std::string>()));
  if (type == "distinct") return make_distinct();
  if (type == "group_by") return group_by(node, functions);
  if (type == "equi_join") return equi_join(node, functions);
  if (type == "cartesian") return make_join(cartesian());
  throw Error("unknown operator type \"" + type + "\"");
}

std::string boundary_name(const std::string& id, const json& node, std::string_view prefix) {
  if (const auto it = node.find("name"); it != node.end()) return it->get<std::string>();
  return id.starts_with(prefix) ? id.substr(prefix.size()) : id;
}

void connect_all(Circuit& circuit, const json& edges,
                 const std::map<std::string, std::size_t>& ids) {
  for (const json& edge : edges) {
    const auto from = ids.find(member(edge, "from").get<std::string>());
    const auto to = ids.find(member(edge, "to").get<std::string>());
    if (from == ids.end() || to == ids.end())
      throw Error("an edge names a node that does not exist: " + edge.dump());
    const auto port = edge.value("port", std::int64_t{0});
    if (port < 0) throw Error("an edge has a negative port: " + edge.dump());
    circuit.connect(from->second, to->second, static_cast<std::size_t>(port));
  }
}

}  // namespace

Circuit circuit_from_json(const json& source, const HostFunctions* functions) {
  try {
    Circuit circuit(member(source, "name").get<std::string>());
    const json& nodes = member(source, "nodes");
    if (!nodes.is_object() || nodes.empty()) throw Error("a circuit needs at least one node");
    std::map<std::string, std::size_t> ids;
    for (const auto& [id, node] : nodes.items()) {
      try {
        const std::string type = member(node, "type").get<std::string>();
        if (type == "input")
          ids[id] = circuit.add_input(boundary_name(id, node, "input_"));
        else if (type == "output")
          ids[id] = circuit.add_output(boundary_name(id, node, "output_"));
        else
          ids[id] = circuit.add(id, operator_from_json(node, functions));
      } catch (const std::exception& error) {
        throw Error("node " + id + ": " + error.what());
      }
    }
    if (const auto edges = source.find("edges"); edges != source.end())
      connect_all(circuit, *edges, ids);
    circuit.prepare();
    return circuit;
  } catch (const json::exception& error) {
    throw Error(std::string("circuit: ") + error.what());
  }
}

}  // namespace dmm::engine
