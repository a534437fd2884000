#include "engine/transform.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/expression/path.h"
#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

using Type = Transform::Type;
using Edges = std::vector<Circuit::Edge>;

int rank(Type type) {
  switch (type) {
    case Type::distincter:
      return 10;
    case Type::reconciler:
    case Type::smith_predictor:
      return 20;
    case Type::incrementalizer:
      return 30;
  }
  return 0;
}

std::string name_of(Type type) {
  static constexpr const char* kNames[] = {"Distincter", "Reconciler", "SmithPredictor",
                                           "Incrementalizer"};
  return kNames[static_cast<std::size_t>(type)];
}

// Takes the edges into a node away and gives their sources.
std::vector<std::size_t> open(Circuit& circuit, std::size_t node) {
  std::vector<std::size_t> sources;
  Edges kept;
  for (const Circuit::Edge& edge : circuit.edges())
    if (edge.to == node)
      sources.push_back(edge.from);
    else
      kept.push_back(edge);
  circuit.set_edges(std::move(kept));
  return sources;
}

std::size_t between(Circuit& circuit, const std::vector<std::size_t>& sources,
                    const std::string& id, OperatorPtr op) {
  const std::size_t node = circuit.add(id, std::move(op));
  for (const std::size_t source : sources) circuit.connect(source, node);
  return node;
}

Circuit incrementalize(const Circuit& circuit) {
  if (circuit.incremental()) throw Error("Incrementalizer: the circuit is incremental already");
  Circuit result(circuit.name() + "^Δ");
  std::map<std::size_t, std::string> boundary;
  for (const auto& [name, node] : circuit.inputs()) boundary[node] = name;
  for (const auto& [name, node] : circuit.outputs()) boundary[node] = name;
  for (std::size_t i = 0; i < circuit.nodes().size(); ++i) {
    const auto& node = circuit.nodes()[i];
    if (node.op->type() == "input")
      result.add_input(boundary.at(i));
    else if (node.op->type() == "output")
      result.add_output(boundary.at(i));
    else if (node.op->linearity() == Linearity::integral)
      result.add(node.id, make_linear({1}, "noop"));
    else
      result.add(node.id, node.op->clone());
  }
  result.set_edges(circuit.edges());
  result.set_incremental(true);
  return result;
}

Circuit distinct_outputs(const Circuit& circuit) {
  Circuit result = circuit.clone();
  for (const auto& [name, output] : circuit.outputs()) {
    const std::string id = circuit.nodes()[output].id;
    const auto sources = open(result, output);
    if (sources.empty()) continue;
    result.connect(between(result, sources, "_dst_" + id, make_distinct()), output);
  }
  return result;
}

struct Loop {
  std::size_t input;
  std::size_t output;
  std::string name;
};

std::size_t boundary_of(const std::map<std::string, std::size_t, std::less<>>& names,
                        const Circuit& circuit, const std::string& name, const std::string& what) {
  if (const auto it = names.find(name); it != names.end()) return it->second;
  for (const auto& [ignored, node] : names)
    if (circuit.nodes()[node].id == name) return node;
  throw Error("there is no " + what + " \"" + name + "\"");
}

std::vector<Loop> loops_of(const Circuit& circuit, const Transform& transform) {
  std::vector<std::pair<std::string, std::string>> pairs = transform.pairs;
  if (pairs.empty())
    for (const auto& [name, node] : circuit.outputs())
      if (circuit.inputs().contains(name)) pairs.emplace_back(name, name);
  if (pairs.empty()) throw Error("no input has the name of an output; give the pairs");
  std::vector<Loop> loops;
  for (const auto& [in, out] : pairs) {
    const Loop loop{boundary_of(circuit.inputs(), circuit, in, "input"),
                    boundary_of(circuit.outputs(), circuit, out, "output"), out};
    for (const Loop& other : loops)
      if (other.input == loop.input || other.output == loop.output)
        throw Error("\"" + in + "\" or \"" + out + "\" is used in two pairs");
    loops.push_back(loop);
  }
  return loops;
}

// What is compared: the documents themselves, or the set of what is left of them in the owned
// fields.
std::size_t compared(Circuit& circuit, const std::vector<std::size_t>& sources,
                     const std::string& id, const Transform& transform) {
  if (transform.owned.empty()) {
    if (sources.size() == 1) return sources.front();
    return between(circuit, sources, id, make_linear({1}, "noop"));
  }
  Fields owned = Fields::none();
  for (const std::string& text : transform.owned) {
    const auto members = Path::parse(text.starts_with('$') ? text : "$." + text).members();
    if (!members) throw Error("owned field \"" + text + "\" must be a path of plain members");
    owned.add(*members);
  }
  const std::size_t pick = between(circuit, sources, id + "_owned", make_pick(std::move(owned)));
  return between(circuit, {pick}, id + "_set", make_distinct());
}

void close_loop(Circuit& circuit, const Loop& loop, const Transform& transform) {
  const bool smith = transform.type == Type::smith_predictor;
  const std::string out = circuit.nodes()[loop.output].id.substr(std::string("output_").size());
  if (circuit.has("_rec_" + out + "_acc") || circuit.has("_smith_" + out + "_acc"))
    throw Error("output \"" + loop.name + "\" is in a loop already");
  const auto sources = open(circuit, loop.output);
  if (sources.empty()) throw Error("output \"" + loop.name + "\" has no source");
  const std::string prefix = (smith ? "_smith_" : "_rec_") + out;
  const std::size_t desired = compared(circuit, sources, prefix + "_desired", transform);
  std::size_t observed = compared(circuit, {loop.input}, prefix + "_observed", transform);
  const std::size_t sub = circuit.add(prefix + "_sub", make_linear({1, -1}, "minus"));
  const std::size_t acc = circuit.add(prefix + "_acc", make_linear({1, 1}, "plus"));
  const std::size_t delay = circuit.add(prefix + "_delay", make_delay());
  if (smith) {
    std::size_t last = delay;
    for (int i = 2; i <= transform.k; ++i)
      last = between(circuit, {last}, prefix + "_w" + std::to_string(i), make_delay());
    const std::size_t window =
        circuit.add(prefix + "_win", make_linear({1, 1, -1}, "linear_combination"));
    circuit.connect(observed, window, 0);
    circuit.connect(delay, window, 1);
    circuit.connect(last, window, 2);
    observed = between(circuit, {window}, prefix + "_dist", make_distinct());
  }
  circuit.connect(desired, sub, 0);
  circuit.connect(observed, sub, 1);
  circuit.connect(sub, acc, 0);
  circuit.connect(delay, acc, 1);
  circuit.connect(acc, delay);
  circuit.connect(acc, loop.output);
}

Circuit reconcile(const Circuit& circuit, const Transform& transform) {
  if (transform.type == Type::smith_predictor && (transform.k < 2 || transform.k > 1000))
    throw Error("k must be between 2 and 1000; a delay of 1 is the Reconciler");
  Circuit result = circuit.clone();
  for (const Loop& loop : loops_of(circuit, transform)) close_loop(result, loop, transform);
  return result;
}

}  // namespace

Circuit apply(const Circuit& circuit, const Transform& transform) {
  try {
    Circuit result = [&] {
      switch (transform.type) {
        case Type::distincter:
          return distinct_outputs(circuit);
        case Type::incrementalizer:
          return incrementalize(circuit);
        default:
          return reconcile(circuit, transform);
      }
    }();
    result.prepare();
    return result;
  } catch (const Error& error) {
    throw Error(name_of(transform.type) + ": " + error.what());
  }
}

Circuit apply_chain(const Circuit& circuit, std::vector<Transform> transforms) {
  if (transforms.empty()) throw Error("a chain needs at least one transform");
  std::stable_sort(
      transforms.begin(), transforms.end(),
      [](const Transform& a, const Transform& b) { return rank(a.type) < rank(b.type); });
  for (std::size_t i = 1; i < transforms.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (transforms[i].type == transforms[j].type)
        throw Error(name_of(transforms[i].type) + " is given twice");
  Circuit result = circuit.clone();
  for (const Transform& transform : transforms) result = apply(result, transform);
  return result;
}

Transform transform_from_json(const nlohmann::json& source) {
  try {
    Transform result;
    const std::string name =
        source.is_string() ? source.get<std::string>() : source.at("name").get<std::string>();
    bool known = false;
    for (const Type type :
         {Type::distincter, Type::reconciler, Type::smith_predictor, Type::incrementalizer})
      if (name_of(type) == name) {
        result.type = type;
        known = true;
      }
    if (!known) throw Error("unknown transform \"" + name + "\"");
    if (source.is_string()) return result;
    if (const auto pairs = source.find("pairs"); pairs != source.end())
      result.pairs = pairs->get<std::vector<std::pair<std::string, std::string>>>();
    result.k = source.value("k", 0);
    if (const auto owned = source.find("owned"); owned != source.end())
      result.owned = owned->get<std::vector<std::string>>();
    return result;
  } catch (const nlohmann::json::exception& error) {
    throw Error(std::string("transform: ") + error.what());
  }
}

}  // namespace dmm::engine
