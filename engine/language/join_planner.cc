#include "engine/language/join_planner_internal.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/language/analysis_internal.h"

namespace dmm::engine::internal {
namespace {

using nlohmann::json;
using Names = std::set<std::string>;

bool within(const Names& names, const Names& of) {
  return std::includes(of.begin(), of.end(), names.begin(), names.end());
}

std::vector<std::string> name_list(const json& list, const char* option) {
  std::vector<std::string> result;
  if (!list.is_array()) throw Error(std::string(option) + " must be a list of names");
  for (const json& name : list) {
    if (!name.is_string()) throw Error(std::string(option) + " must be a list of names");
    result.push_back(name.get<std::string>());
  }
  return result;
}

bool contains(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// One condition of the predicate, and whether it has found its place.
struct Condition {
  json expression;
  Names names;
  bool known = true;  // false: it may read any input
  bool placed = false;
};

class Planner {
 public:
  Planner(const JoinStage& stage, const std::map<std::string, PlanPtr>& sources, const Fields& used,
          const std::string& label, bool optimise)
      : stage_(stage), sources_(sources), used_(used), label_(label), optimise_(optimise) {
    for (json& part : conjuncts(stage.predicate)) {
      const auto names = namespaces(part);
      conditions_.push_back(Condition{std::move(part), names.value_or(Names{}), names.has_value()});
    }
  }

  PlanPtr run() {
    const bool many_hard = stage_.hard.size() > 1;
    if (many_hard && optimise_) push_down();
    add_used();
    PlanPtr current = source(stage_.hard.front());
    names_ = {stage_.hard.front()};
    for (std::size_t i = 1; i < stage_.hard.size(); ++i)
      current = join(current, stage_.hard[i], false);
    for (const std::string& soft : stage_.soft) current = join(current, soft, true);
    return current;
  }

 private:
  // Conditions on one hard input that cannot fail are tested before the join.
  void push_down() {
    for (Condition& condition : conditions_) {
      if (!condition.known || condition.names.size() != 1 ||
          !is_total_condition(condition.expression))
        continue;
      const std::string& name = *condition.names.begin();
      if (!contains(stage_.hard, name)) continue;
      auto stripped = without_namespace(condition.expression, name);
      if (!stripped) continue;
      condition.placed = true;
      below_[name].push_back(std::move(*stripped));
    }
  }

  void add_used() {
    if (!optimise_) return;
    for (const Condition& condition : conditions_)
      if (!condition.placed) add_used_fields(condition.expression, used_);
    for (const auto& [name, key] : stage_.index) {
      Fields of_key = Fields::none();
      add_used_fields(key, of_key);
      if (of_key.whole()) used_.add({name});
      for (const auto& [member, fields] : of_key.members()) add_below({name, member}, fields);
    }
  }

  void add_below(std::vector<std::string> path, const Fields& fields) {
    if (fields.whole()) used_.add(path);
    for (const auto& [member, below] : fields.members()) {
      path.push_back(member);
      add_below(path, below);
      path.pop_back();
    }
  }

  // Soft inputs stay whole: whether one matches is asked of its documents, not of what is left of
  // them after documents that differ elsewhere were merged.
  PlanPtr source(const std::string& name) {
    PlanPtr plan = sources_.at(name);
    if (const auto it = below_.find(name); it != below_.end()) {
      auto select = std::make_shared<PlanNode>();
      select->type = PlanNode::Type::select;
      select->label = label_ + "_" + name + "_select";
      select->argument = conjunction(it->second);
      select->inputs = {plan};
      plan = select;
    }
    if (!optimise_ || contains(stage_.soft, name)) return plan;
    const Fields* fields = used_.member(name);
    if (fields != nullptr && fields->whole()) return plan;
    auto pick = std::make_shared<PlanNode>();
    pick->type = PlanNode::Type::pick;
    pick->label = label_ + "_" + name + "_pick";
    pick->fields = fields == nullptr ? Fields::none() : *fields;
    pick->inputs = {plan};
    return pick;
  }

  PlanPtr join(const PlanPtr& left, const std::string& right, bool soft) {
    auto node = std::make_shared<PlanNode>();
    node->type = PlanNode::Type::join;
    node->label = label_ + (soft ? "_soft_" : "_") + right;
    node->inputs = {left, source(right)};
    node->left_names = names_;
    node->right_name = right;
    node->soft = soft;
    const Names before(names_.begin(), names_.end());
    names_.push_back(right);
    const Names after(names_.begin(), names_.end());
    const bool last = names_.size() == stage_.hard.size() + stage_.soft.size();
    const bool last_hard = names_.size() == stage_.hard.size();
    std::vector<json> residual;
    for (Condition& condition : conditions_) {
      if (condition.placed) continue;
      // With a single hard input its own conditions belong to each soft match (as ON does in SQL).
      const bool to_each = soft && stage_.hard.size() == 1 && condition.known &&
                           within(condition.names, {stage_.hard.front()});
      const bool ready = condition.known ? within(condition.names, after) : last;
      const bool constant = condition.known && condition.names.empty();
      if (!to_each && !ready) continue;
      if (!to_each && constant && !soft && !last_hard) continue;
      condition.placed = !to_each;
      if (!optimise_ || !add_key(condition, before, right, *node))
        residual.push_back(condition.expression);
    }
    add_index(before, right, *node);
    node->residual = conjunction(residual);
    return node;
  }

  bool add_key(const Condition& condition, const Names& before, const std::string& right,
               PlanNode& node) {
    const json& expression = condition.expression;
    if (!condition.known || !expression.is_object() || expression.begin().key() != "@eq")
      return false;
    const json& sides = expression.begin().value();
    if (!sides.is_array() || sides.size() != 2 || is_volatile(expression)) return false;
    auto a = namespaces(sides[0]);
    auto b = namespaces(sides[1]);
    if (!a || !b || a->empty() || b->empty()) return false;
    const bool swapped = *a == Names{right};
    if (swapped) std::swap(a, b);
    if (*b != Names{right} || !within(*a, before)) return false;
    PlanNode::KeyPair pair{swapped ? sides[1] : sides[0], swapped ? sides[0] : sides[1]};
    if (auto stripped = without_namespace(pair.right, right)) {
      pair.right = std::move(*stripped);
      pair.right_on_document = true;
    }
    if (before.size() == 1)
      if (auto stripped = without_namespace(pair.left, *before.begin())) {
        pair.left = std::move(*stripped);
        pair.left_on_document = true;
      }
    node.keys.push_back(std::move(pair));
    return true;
  }

  // The keys of `index` are written for the documents themselves.
  void add_index(const Names& before, const std::string& right, PlanNode& node) {
    if (stage_.index.size() != 2) return;
    std::size_t r = 2;
    for (std::size_t i = 0; i < 2; ++i)
      if (stage_.index[i].first == right && before.contains(stage_.index[1 - i].first)) r = i;
    if (r == 2) return;
    const auto& [left_name, left_key] = stage_.index[1 - r];
    PlanNode::KeyPair pair{left_key, stage_.index[r].second, true, true};
    if (before.size() > 1) {
      pair.left = with_namespace(left_key, left_name);
      pair.left_on_document = false;
    }
    node.keys.push_back(std::move(pair));
  }

  static json with_namespace(const json& expression, const std::string& name) {
    json result = expression;
    prefix(result, name);
    return result;
  }
  static void prefix(json& expression, const std::string& name) {
    if (expression.is_string()) {
      const auto text = expression.get<std::string>();
      if (text.starts_with("$.") || text.starts_with("$[")) {
        const std::string rest = text == "$." ? "" : text.substr(1);
        expression = "$[\"" + name + "\"]" + rest;
      }
      return;
    }
    if (expression.is_object() && expression.size() == 1 && expression.begin().key() == "@literal")
      return;
    if (!expression.is_structured()) return;
    for (json& item : expression) prefix(item, name);
  }

  const JoinStage& stage_;
  const std::map<std::string, PlanPtr>& sources_;
  Fields used_;
  std::string label_;
  bool optimise_;
  std::vector<Condition> conditions_;
  std::map<std::string, std::vector<json>> below_;
  std::vector<std::string> names_;
};

void parse_options(const json& options, const std::vector<std::string>& inputs, JoinStage& stage) {
  if (!options.is_object()) throw Error("argument options: an object is expected");
  for (const auto& [key, value] : options.items()) {
    if (key == "inputs") {
      stage.hard = name_list(value, "inputs");
      for (const std::string& name : stage.hard)
        if (!contains(inputs, name))
          throw Error("argument inputs: \"" + name + "\" is not listed in @inputs");
    } else if (key != "soft" && key != "index") {
      throw Error("argument options: unknown option \"" + key + "\"");
    }
  }
  if (stage.hard.size() < 2) throw Error("@join requires multiple inputs");
  const std::vector<std::string> participants = stage.hard;
  if (const auto soft = options.find("soft"); soft != options.end()) {
    stage.soft = name_list(*soft, "soft");
    for (const std::string& name : stage.soft) {
      if (!contains(participants, name))
        throw Error("argument soft: \"" + name + "\" is not listed in @inputs");
      if (std::erase(stage.hard, name) == 0)
        throw Error("argument soft: \"" + name + "\" is given twice");
    }
    if (stage.hard.empty()) throw Error("argument soft: at least one input must not be soft");
  }
  const auto index = options.find("index");
  if (index == options.end()) return;
  if (!index->is_object() || index->size() != 2)
    throw Error("argument index: exactly two participants are expected");
  for (const auto& [name, key] : index->items()) {
    if (!contains(participants, name))
      throw Error("argument index: \"" + name + "\" is not a join participant");
    stage.index.emplace_back(name, key);
  }
}

}  // namespace

JoinStage parse_join(const json& argument, const std::vector<std::string>& inputs) {
  JoinStage stage;
  stage.hard = inputs;
  json options = json::object();
  stage.predicate = argument;
  if (argument.is_array()) {
    if (argument.empty() || argument.size() > 2)
      throw Error("argument predicate: [predicate] or [predicate, options] is expected");
    stage.predicate = argument[0];
    if (argument.size() == 2) options = argument[1];
  }
  if (stage.predicate.is_null()) throw Error("argument predicate: missing");
  parse_options(options, inputs, stage);
  return stage;
}

PlanPtr plan_join(const JoinStage& stage, const std::map<std::string, PlanPtr>& sources,
                  const Fields& used, const std::string& label, bool optimise) {
  return Planner(stage, sources, used, label, optimise).run();
}

}  // namespace dmm::engine::internal
