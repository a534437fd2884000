#include <unordered_map>

#include "engine/error.h"
#include "engine/language/language.h"
#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

using nlohmann::json;
using Type = PlanNode::Type;

AggregateSpec::Fold fold_of(const std::string& name) {
  using Fold = AggregateSpec::Fold;
  static const std::map<std::string, Fold, std::less<>> kFolds = {
      {"count", Fold::count},   {"sum", Fold::sum},   {"mean", Fold::mean},
      {"min", Fold::min},       {"max", Fold::max},   {"lexmin", Fold::lexmin},
      {"lexmax", Fold::lexmax}, {"topk", Fold::topk}, {"bottomk", Fold::bottomk}};
  return kFolds.at(name);
}

json describe_join(const PlanNode& node) {
  json keys = json::array();
  for (const auto& pair : node.keys) keys.push_back({pair.left, pair.right});
  json result = {{"keys", std::move(keys)}};
  if (!node.residual.is_null()) result["residual"] = node.residual;
  return result;
}

json describe_group(const PlanNode& node) {
  json result = {{"key", node.key}, {"value", node.value}};
  if (node.group_distinct) result["distinct"] = true;
  json keeps = json::array();
  if (node.values) keeps.push_back("values");
  if (node.documents) keeps.push_back("documents");
  result["lists"] = std::move(keeps);
  json folds = json::array();
  for (const auto& aggregate : node.aggregates) {
    json fold = {{"fold", aggregate.fold}};
    if (!aggregate.element.is_null()) fold["of"] = aggregate.element;
    if (aggregate.k != 0) fold["k"] = aggregate.k;
    folds.push_back(std::move(fold));
  }
  if (!folds.empty()) result["folds"] = std::move(folds);
  if (!node.filters.empty()) result["filters"] = node.filters;
  if (!node.projection.is_null()) result["projection"] = node.projection;
  return result;
}

class Lowering {
 public:
  Lowering(const CompileOptions& options) : options_(options), circuit_(options.name) {}

  Circuit run(const Plan& plan) {
    for (const std::string& name : plan.inputs) inputs_[name] = circuit_.add_input(name);
    for (const auto& [name, root] : plan.outputs) {
      const std::size_t from = lower(root);
      circuit_.connect(from, circuit_.add_output(name));
    }
    circuit_.prepare();
    return std::move(circuit_);
  }

 private:
  std::size_t lower(const PlanPtr& node) {
    if (node->type == Type::source) return inputs_.at(node->source);
    if (const auto it = done_.find(node.get()); it != done_.end()) return it->second;
    std::vector<std::size_t> from;
    for (const PlanPtr& input : node->inputs) from.push_back(lower(input));
    std::string id = node->label;
    for (int i = 2; circuit_.has(id); ++i) id = node->label + "_" + std::to_string(i);
    const std::size_t at = circuit_.add(id, make(*node));
    for (std::size_t port = 0; port < from.size(); ++port) circuit_.connect(from[port], at, port);
    done_[node.get()] = at;
    return at;
  }

  ExpressionPtr compile(const json& source) {
    return compile_expression(source, &options_.functions);
  }

  OperatorPtr make(const PlanNode& node) {
    switch (node.type) {
      case Type::source:
        break;
      case Type::pick:
        return make_pick(node.fields);
      case Type::select:
        return make_select(compile(node.argument), node.argument);
      case Type::project:
        return make_project(compile_projection(node.argument, &options_.functions), node.argument,
                            is_volatile(node.argument));
      case Type::unwind:
        return make_unwind(Path::parse(node.argument.get<std::string>()));
      case Type::distinct:
        return make_distinct();
      case Type::group:
        return group(node);
      case Type::join:
        return join(node);
      case Type::unite:
        return make_linear(std::vector<std::int64_t>(node.inputs.size(), 1), "plus");
    }
    throw Error("a plan node that cannot be lowered");
  }

  OperatorPtr join(const PlanNode& node) {
    JoinSpec spec;
    spec.left.names = node.left_names;
    spec.right.names = {node.right_name};
    for (const auto& pair : node.keys) {
      spec.left.keys.push_back(compile(pair.left));
      spec.right.keys.push_back(compile(pair.right));
      spec.left.on_document.push_back(pair.left_on_document);
      spec.right.on_document.push_back(pair.right_on_document);
    }
    if (!node.residual.is_null()) spec.residual = compile(node.residual);
    spec.source = describe_join(node);
    spec.only_unmatched = node.only_unmatched;
    return node.soft ? make_soft_join(std::move(spec)) : make_join(std::move(spec));
  }

  OperatorPtr group(const PlanNode& node) {
    GroupSpec spec;
    spec.key = compile(node.key);
    if (!node.value.is_null()) spec.value = compile(node.value);
    spec.distinct = node.group_distinct;
    spec.values = node.values;
    spec.documents = node.documents;
    std::vector<json> elements = {nullptr};
    for (const auto& aggregate : node.aggregates) {
      std::size_t source = 0;
      while (source < elements.size() && elements[source] != aggregate.element) ++source;
      if (source == elements.size()) {
        elements.push_back(aggregate.element);
        spec.elements.push_back(compile(aggregate.element));
      }
      spec.aggregates.push_back(AggregateSpec{fold_of(aggregate.fold), source, aggregate.k});
    }
    for (const json& filter : node.filters) spec.filters.push_back(compile(filter));
    if (!node.projection.is_null())
      spec.projection = compile_projection(node.projection, &options_.functions);
    spec.source = describe_group(node);
    return make_group(std::move(spec));
  }

  const CompileOptions& options_;
  Circuit circuit_;
  std::map<std::string, std::size_t> inputs_;
  std::unordered_map<const PlanNode*, std::size_t> done_;
};

json plan_json(const PlanNode& node) {
  static constexpr const char* kNames[] = {"source",   "pick",  "select", "project", "unwind",
                                           "distinct", "group", "join",   "unite"};
  json result = {{"op", kNames[static_cast<std::size_t>(node.type)]}};
  switch (node.type) {
    case Type::source:
      result["input"] = node.source;
      break;
    case Type::pick:
      result["fields"] = node.fields.text();
      break;
    case Type::group:
      result["detail"] = describe_group(node);
      break;
    case Type::join:
      result["op"] = node.soft ? "soft join" : "join";
      result["left"] = node.left_names;
      result["right"] = node.right_name;
      result["on"] = describe_join(node);
      break;
    default:
      if (!node.argument.is_null()) result["argument"] = node.argument;
  }
  for (const PlanPtr& input : node.inputs) result["from"].push_back(plan_json(*input));
  return result;
}

void plan_text(const json& node, std::size_t depth, std::string& out) {
  out.append(2 * depth, ' ');
  out += node["op"].get<std::string>();
  json rest = node;
  rest.erase("op");
  rest.erase("from");
  if (!rest.empty()) out += ' ' + rest.dump(-1, ' ', false, json::error_handler_t::replace);
  out += '\n';
  if (const auto from = node.find("from"); from != node.end())
    for (const json& input : *from) plan_text(input, depth + 1, out);
}

}  // namespace

Circuit make_circuit(const Plan& plan, const CompileOptions& options) {
  return Lowering(options).run(plan);
}

nlohmann::json Plan::json() const {
  nlohmann::json result = {{"outputs", nlohmann::json::object()},
                           {"fields", nlohmann::json::object()}};
  for (const auto& [name, root] : outputs) result["outputs"][name] = plan_json(*root);
  for (const auto& [name, used] : fields) result["fields"][name] = used.text();
  return result;
}

std::string Plan::text() const {
  std::string out;
  for (const auto& [name, root] : outputs) {
    out += "output " + name + "\n";
    plan_text(plan_json(*root), 1, out);
  }
  for (const auto& [name, used] : fields) out += "input " + name + " reads " + used.text() + "\n";
  return out;
}

}  // namespace dmm::engine
