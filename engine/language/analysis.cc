#include "engine/language/analysis_internal.h"

#include "engine/error.h"
#include "engine/expression/path.h"

namespace dmm::engine::internal {
namespace {

using nlohmann::json;

bool is_call(const json& expression) {
  return expression.is_object() && expression.size() == 1 &&
         expression.begin().key().starts_with('@');
}

// Calls visit(path text) for each constant path; false when an operator reads in ways unknown.
template <class Visit>
bool visit_paths(const json& expression, const Visit& visit) {
  if (expression.is_string()) {
    const auto& text = expression.get_ref<const std::string&>();
    return !Path::is_path(text) || visit(text);
  }
  if (is_call(expression)) {
    const std::string& name = expression.begin().key();
    const json& argument = expression.begin().value();
    if (name == "@literal") return true;
    if (name == "@copy" || name == "@setField") return false;
    if (name == "@rnd") return false;
    if (name == "@subject") return visit("$$.");
    if (name == "@getField" || name == "@exists") {
      if (!argument.is_string()) return false;
      return visit(argument.get<std::string>());
    }
  }
  if (!expression.is_structured()) return true;
  for (const json& item : expression)
    if (!visit_paths(item, visit)) return false;
  return true;
}

bool of_subject(std::string_view text) {
  return text.starts_with("$$");
}

void add_used(const json& expression, bool subject_too, Fields& fields) {
  const bool known = visit_paths(expression, [&](const std::string& text) {
    if (of_subject(text) && !subject_too) return true;
    try {
      fields.add(Path::parse(text).leading_members());
    } catch (const Error&) {
      fields.add(std::vector<std::string>{});
    }
    return true;
  });
  if (!known) fields.add(std::vector<std::string>{});
}

std::optional<std::string> strip(const std::string& text, const std::string& name) {
  for (const std::string& prefix : {"$." + name, "$[\"" + name + "\"]", "$['" + name + "']"}) {
    if (!text.starts_with(prefix)) continue;
    const std::string rest = text.substr(prefix.size());
    if (rest.empty()) return "$.";
    if (rest.front() == '.' || rest.front() == '[') return "$" + rest;
  }
  return std::nullopt;
}

bool strip_all(json& expression, const std::string& name) {
  if (expression.is_string()) {
    const auto& text = expression.get_ref<const std::string&>();
    if (!Path::is_path(text) || of_subject(text)) return true;
    const auto stripped = strip(text, name);
    if (!stripped) return false;
    expression = *stripped;
    return true;
  }
  if (is_call(expression) && expression.begin().key() == "@literal") return true;
  if (!expression.is_structured()) return true;
  for (json& item : expression)
    if (!strip_all(item, name)) return false;
  return true;
}

// `$.values`, or [`$.values`], or a map over it: what a fold can be kept over.
struct Folded {
  json element;
};

std::optional<Folded> folded(const json& argument, const PlanNode& node) {
  const json& source = argument.is_array() && argument.size() == 1 ? argument[0] : argument;
  if (source == "$.values") return Folded{nullptr};
  if (source == "$.documents" && node.value.is_null()) return Folded{nullptr};
  if (!is_call(source) || source.begin().key() != "@map") return std::nullopt;
  const json& map = source.begin().value();
  if (!map.is_array() || map.size() != 2) return std::nullopt;
  if (map[1] != "$.values" && !(map[1] == "$.documents" && node.value.is_null()))
    return std::nullopt;
  if (is_volatile(map[0])) return std::nullopt;
  const bool only_subject =
      visit_paths(map[0], [](const std::string& text) { return of_subject(text); });
  if (!only_subject) return std::nullopt;
  return Folded{map[0]};
}

json place_of(PlanNode& node, PlanNode::Aggregate aggregate) {
  std::size_t at = 0;
  for (; at < node.aggregates.size(); ++at) {
    const auto& other = node.aggregates[at];
    if (other.fold == aggregate.fold && other.element == aggregate.element &&
        other.k == aggregate.k)
      break;
  }
  if (at == node.aggregates.size()) node.aggregates.push_back(std::move(aggregate));
  return "$[\"@" + std::to_string(at) + "\"]";
}

std::optional<PlanNode::Aggregate> aggregate_of(const std::string& name, const json& argument,
                                                const PlanNode& node) {
  static const std::map<std::string, std::string, std::less<>> kFolds = {
      {"@sum", "sum"}, {"@add", "sum"},       {"@avg", "mean"},     {"@min", "min"},
      {"@max", "max"}, {"@lexmin", "lexmin"}, {"@lexmax", "lexmax"}};
  if (name == "@len") {
    const json& source = argument.is_array() && argument.size() == 1 ? argument[0] : argument;
    const bool counts = source == "$.values" || (source == "$.documents" && !node.group_distinct);
    return counts ? std::optional(PlanNode::Aggregate{"count", nullptr, 0}) : std::nullopt;
  }
  if (name == "@topk" || name == "@bottomk") {
    if (!argument.is_array() || argument.size() != 2 || !argument[0].is_number_integer() ||
        argument[0] < 0)
      return std::nullopt;
    if (const auto what = folded(argument[1], node))
      return PlanNode::Aggregate{name.substr(1), what->element, argument[0].get<std::int64_t>()};
    return std::nullopt;
  }
  const auto fold = kFolds.find(name);
  if (fold == kFolds.end()) return std::nullopt;
  if (const auto what = folded(argument, node))
    return PlanNode::Aggregate{fold->second, what->element, 0};
  return std::nullopt;
}

}  // namespace

void add_used_fields(const json& expression, Fields& fields) {
  add_used(expression, false, fields);
}
void add_used_fields_of_both(const json& expression, Fields& fields) {
  add_used(expression, true, fields);
}

void add_projection_fields(const json& projection, Fields& fields) {
  if (projection.is_array()) {
    for (const json& fragment : projection) add_projection_fields(fragment, fields);
    return;
  }
  if (!projection.is_object()) return;
  for (const json& value : projection) add_used_fields(value, fields);
}

std::optional<std::set<std::string>> namespaces(const json& expression) {
  std::set<std::string> names;
  const bool known = visit_paths(expression, [&names](const std::string& text) {
    if (of_subject(text)) return true;
    const auto leading = Path::parse(text).leading_members();
    if (leading.empty()) return false;
    names.insert(leading.front());
    return true;
  });
  if (!known) return std::nullopt;
  return names;
}

std::optional<json> without_namespace(const json& expression, const std::string& name) {
  if (!visit_paths(expression, [](const std::string&) { return true; })) return std::nullopt;
  json result = expression;
  if (!strip_all(result, name)) return std::nullopt;
  return result;
}

bool is_total_condition(const json& expression) {
  if (expression.is_boolean()) return true;
  if (!is_call(expression)) return false;
  const std::string& name = expression.begin().key();
  const json& argument = expression.begin().value();
  const auto plain = [](const json& operand) {
    return operand.is_primitive() || (is_call(operand) && operand.begin().key() == "@literal");
  };
  if (name == "@eq" || name == "@neq")
    return argument.is_array() && argument.size() == 2 && plain(argument[0]) && plain(argument[1]);
  if (name == "@exists") return argument.is_string();
  if (name == "@isnil")
    return plain(argument.is_array() && argument.size() == 1 ? argument[0] : argument);
  if (name != "@and" && name != "@or" && name != "@not") return false;
  if (!argument.is_array()) return is_total_condition(argument);
  for (const json& part : argument)
    if (!is_total_condition(part)) return false;
  return true;
}

std::vector<json> conjuncts(const json& predicate) {
  if (predicate == true) return {};
  if (!is_call(predicate) || predicate.begin().key() != "@and" ||
      !predicate.begin().value().is_array())
    return {predicate};
  std::vector<json> result;
  for (const json& part : predicate.begin().value())
    for (json& inner : conjuncts(part)) result.push_back(std::move(inner));
  return result;
}

json conjunction(const std::vector<json>& parts) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1) return parts.front();
  return {{"@and", parts}};
}

bool extract_aggregates(json& expression, PlanNode& node) {
  if (expression.is_string()) {
    const auto& text = expression.get_ref<const std::string&>();
    if (!Path::is_path(text) || of_subject(text)) return true;
    const auto leading = Path::parse(text).leading_members();
    if (leading.empty()) return false;
    node.values = node.values || leading.front() == "values";
    node.documents = node.documents || leading.front() == "documents";
    return true;
  }
  if (is_call(expression)) {
    const std::string name = expression.begin().key();
    if (name == "@literal") return true;
    if (name == "@copy" || name == "@setField" || name == "@getField" || name == "@exists" ||
        name == "@rnd")
      return false;
    if (auto aggregate = aggregate_of(name, expression.begin().value(), node)) {
      expression = place_of(node, std::move(*aggregate));
      return true;
    }
  }
  if (!expression.is_structured()) return true;
  for (json& item : expression)
    if (!extract_aggregates(item, node)) return false;
  return true;
}

bool extract_projection_aggregates(json& projection, PlanNode& node) {
  if (projection.is_array()) {
    for (json& fragment : projection)
      if (!extract_projection_aggregates(fragment, node)) return false;
    return true;
  }
  for (json& value : projection)
    if (!extract_aggregates(value, node)) return false;
  return true;
}

}  // namespace dmm::engine::internal
