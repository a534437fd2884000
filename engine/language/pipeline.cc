#include <algorithm>

#include "engine/error.h"
#include "engine/expression/path.h"
#include "engine/language/analysis_internal.h"
#include "engine/language/join_planner_internal.h"
#include "engine/language/language.h"
#include "engine/limits.h"

namespace dmm::engine {
namespace {

using nlohmann::json;

struct Stage {
  std::string op;
  json argument;
  std::size_t index = 0;  // in the text of its branch
};

struct Branch {
  std::vector<std::string> inputs;
  std::string output;
  std::vector<Stage> stages;
};

std::string trimmed(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \t\n\r");
  return from == std::string::npos ? ""
                                   : text.substr(from, text.find_last_not_of(" \t\n\r") - from + 1);
}

[[noreturn]] void fail_stage(const Stage& stage, const std::string& cause) {
  const std::string raw =
      stage.argument.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 220);
  const bool named = cause.starts_with("argument ");
  throw Error("pipeline parse error at stage[" + std::to_string(stage.index) + "] " + stage.op +
              ", " +
              (named ? cause : "argument " + stage.op.substr(1) + " (raw=" + raw + "): " + cause));
}

bool is_stage(const json& item) {
  if (item.is_string()) return item.get_ref<const std::string&>().starts_with('@');
  return item.is_object() && item.size() == 1 && item.begin().key().starts_with('@');
}

Stage stage_of(const json& item, std::size_t index) {
  if (!is_stage(item))
    throw Error("pipeline parse error at stage[" + std::to_string(index) +
                "]: a stage is {\"@op\": argument} or \"@op\", not " +
                item.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 220));
  if (item.is_string()) return Stage{item.get<std::string>(), nullptr, index};
  return Stage{item.begin().key(), item.begin().value(), index};
}

// Bindings with names trimmed, repeated names dropped, empty logical names filled in.
std::vector<Binding> cleaned(const std::vector<Binding>& bindings) {
  std::vector<Binding> result;
  for (const Binding& binding : bindings) {
    Binding clean{trimmed(binding.name), trimmed(binding.logical)};
    if (clean.logical.empty()) clean.logical = clean.name;
    const auto same = [&clean](const Binding& other) { return other.name == clean.name; };
    if (clean.name.empty()) throw Error("a binding needs a name");
    if (std::none_of(result.begin(), result.end(), same)) result.push_back(std::move(clean));
  }
  return result;
}

class Planner {
 public:
  Planner(const json& program, const CompileOptions& options)
      : options_(options), sources_(cleaned(options.inputs)), targets_(cleaned(options.outputs)) {
    if (targets_.empty()) targets_ = {Binding{"output", "output"}};
    parse(program);
  }

  Plan run() {
    Plan plan;
    for (const Binding& source : sources_) {
      auto node = std::make_shared<PlanNode>();
      node->type = PlanNode::Type::source;
      node->source = source.name;
      node->label = "input";
      if (!source_plans_.emplace(source.logical, node).second)
        throw Error("input \"" + source.logical + "\" is bound twice");
      plan.inputs.push_back(source.name);
    }
    check_reads();
    for (const std::size_t i : order()) produced_[branches_[i].output].push_back(plan_branch(i));
    for (const Binding& target : targets_)
      plan.outputs.emplace_back(target.name, output_of(target));
    for (const Binding& source : sources_)
      plan.fields.emplace(source.name, used_of(source.logical));
    return plan;
  }

 private:
  void parse(const json& program) {
    if (is_stage(program)) return add_branch(json::array({program}), true, 0);
    if (!program.is_array())
      throw Error("a pipeline is a stage, a list of stages or a list of branches");
    // A string or an object that is no stage makes the error about the stage, not about the form.
    const bool one = std::none_of(program.begin(), program.end(),
                                  [](const json& item) { return item.is_array(); });
    if (one) return add_branch(program, true, 0);
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (!program[i].is_array())
        throw Error("branch[" + std::to_string(i) +
                    "]: every element must be a branch (a list of stages)");
      add_branch(program[i], false, i);
    }
  }

  void add_branch(const json& stages, bool only, std::size_t number) {
    Branch branch;
    bool has_inputs = false;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      Stage stage = stage_of(stages[i], i);
      if (stage.op == "@inputs") {
        if (has_inputs) fail_stage(stage, "given twice in one branch");
        has_inputs = true;
        if (!stage.argument.is_array() || stage.argument.empty())
          fail_stage(stage, "a list of names is expected");
        for (const json& name : stage.argument) {
          if (!name.is_string()) fail_stage(stage, "a list of names is expected");
          branch.inputs.push_back(trimmed(name.get<std::string>()));
          if (std::count(branch.inputs.begin(), branch.inputs.end(), branch.inputs.back()) > 1)
            fail_stage(stage, "\"" + branch.inputs.back() + "\" is listed twice");
        }
      } else if (stage.op == "@output") {
        if (!branch.output.empty()) fail_stage(stage, "given twice in one branch");
        if (!stage.argument.is_string() || trimmed(stage.argument.get<std::string>()).empty())
          fail_stage(stage, "a name is expected");
        branch.output = trimmed(stage.argument.get<std::string>());
      } else {
        branch.stages.push_back(std::move(stage));
      }
    }
    if (!only && (!has_inputs || branch.output.empty()))
      throw Error("branch[" + std::to_string(number) + "] needs @inputs and @output");
    if (!has_inputs)
      for (const Binding& source : sources_) branch.inputs.push_back(source.logical);
    if (branch.output.empty()) branch.output = targets_.front().logical;
    branches_.push_back(std::move(branch));
  }

  bool is_source(const std::string& name) const { return source_plans_.contains(name); }

  void check_reads() const {
    for (std::size_t i = 0; i < branches_.size(); ++i)
      for (const std::string& name : branches_[i].inputs) {
        bool produced = false;
        for (std::size_t j = 0; j < branches_.size(); ++j) {
          if (branches_[j].output != name) continue;
          produced = true;
          if (is_source(name) && i != j)
            throw Error("branch[" + std::to_string(j) + "]: its output \"" + name +
                        "\" shadows the input of that name, which branch[" + std::to_string(i) +
                        "] reads; use another name");
        }
        if (!is_source(name) && !produced) throw Error("input \"" + name + "\" is unbound");
      }
  }

  // Branches after those that they read.
  std::vector<std::size_t> order() const {
    std::vector<std::size_t> result;
    std::vector<int> state(branches_.size(), 0);
    for (std::size_t i = 0; i < branches_.size(); ++i) visit(i, state, result);
    return result;
  }
  void visit(std::size_t i, std::vector<int>& state, std::vector<std::size_t>& result) const {
    if (state[i] == 2) return;
    if (state[i] == 1)
      throw Error("the branches must be a DAG: \"" + branches_[i].output + "\" depends on itself");
    state[i] = 1;
    for (const std::string& name : branches_[i].inputs)
      for (std::size_t j = 0; j < branches_.size(); ++j)
        if (branches_[j].output == name && !is_source(name)) visit(j, state, result);
    state[i] = 2;
    result.push_back(i);
  }

  static PlanPtr node(PlanNode::Type type, std::string label, std::vector<PlanPtr> inputs) {
    auto result = std::make_shared<PlanNode>();
    result->type = type;
    result->label = std::move(label);
    result->inputs = std::move(inputs);
    return result;
  }

  PlanPtr unite(const std::vector<PlanPtr>& parts, const std::string& label) {
    return parts.size() == 1 ? parts.front() : node(PlanNode::Type::unite, label, parts);
  }

  PlanPtr stream(const std::string& name) {
    if (const auto it = source_plans_.find(name); it != source_plans_.end()) return it->second;
    PlanPtr& known = streams_[name];
    if (!known) known = unite(produced_.at(name), "lc_" + name);
    return known;
  }

  PlanPtr output_of(const Binding& target) {
    if (const auto it = produced_.find(target.logical); it != produced_.end())
      return unite(it->second, "lc_out_" + target.logical);
    if (is_source(target.logical)) return stream(target.logical);
    throw Error("output \"" + target.logical + "\" is not produced by any branch");
  }

  // What the stages from `at` on read of their document.
  Fields used_after(const Branch& branch, std::size_t at) const {
    Fields fields = Fields::none();
    for (; at < branch.stages.size(); ++at) {
      const Stage& stage = branch.stages[at];
      if (stage.op == "@select") {
        internal::add_used_fields(stage.argument, fields);
      } else if (stage.op == "@unwind") {
        internal::add_used_fields(stage.argument, fields);
      } else if (stage.op == "@project") {
        internal::add_projection_fields(stage.argument, fields);
        return fields;
      } else if (stage.op == "@groupBy" && stage.argument.is_array() &&
                 stage.argument.size() >= 2) {
        internal::add_used_fields_of_both(stage.argument[0], fields);
        if (stage.argument[1].is_null()) break;
        internal::add_used_fields_of_both(stage.argument[1], fields);
        const Fields later = used_after(branch, at + 1);
        if (later.member("documents") == nullptr) return fields;
        break;
      } else {
        break;
      }
    }
    fields.add(std::vector<std::string>{});
    return fields;
  }

  // What of a source is read anywhere; passed through or joined whole means all.
  Fields used_of(const std::string& name) const {
    Fields fields = Fields::none();
    bool read = false;
    for (const Branch& branch : branches_) {
      if (std::find(branch.inputs.begin(), branch.inputs.end(), name) == branch.inputs.end())
        continue;
      read = true;
      const bool joins = !branch.stages.empty() && branch.stages.front().op == "@join";
      fields.add(joins || !options_.optimise ? Fields::all() : used_after(branch, 0));
      if (joins && options_.optimise) fields = joined_fields(branch, name, fields);
    }
    for (const Binding& target : targets_)
      if (target.logical == name && !produced_.contains(name)) read = false;
    if (!read) fields.add(std::vector<std::string>{});
    return fields;
  }

  // The reader of a join knows its inputs by name; only a single reader is worth the trouble.
  Fields joined_fields(const Branch& branch, const std::string& name, const Fields& whole) const {
    std::size_t readers = 0;
    for (const Branch& other : branches_)
      readers += std::count(other.inputs.begin(), other.inputs.end(), name) > 0 ? 1 : 0;
    const internal::JoinStage stage =
        internal::parse_join(branch.stages.front().argument, branch.inputs);
    const bool hard = std::find(stage.hard.begin(), stage.hard.end(), name) != stage.hard.end();
    if (readers != 1 || !hard || !stage.index.empty()) return whole;
    Fields used = used_after(branch, 1);
    internal::add_used_fields(stage.predicate, used);
    const Fields* fields = used.member(name);
    return fields == nullptr ? Fields::none() : *fields;
  }

  PlanPtr plan_branch(std::size_t number) {
    const Branch& branch = branches_[number];
    const std::string prefix = "b" + std::to_string(number);
    std::size_t at = 0;
    PlanPtr current;
    if (branch.inputs.size() > 1 ||
        (!branch.stages.empty() && branch.stages.front().op == "@join")) {
      current = start_join(branch, prefix, at);
    } else {
      if (branch.inputs.empty()) throw Error("there is no input");
      current = stream(branch.inputs.front());
    }
    while (at < branch.stages.size()) {
      const Stage& stage = branch.stages[at];
      try {
        current = plan_stage(branch, at, prefix + "_op_" + std::to_string(stage.index), current);
      } catch (const Error& error) {
        if (std::string_view(error.what()).starts_with("pipeline parse error")) throw;
        fail_stage(stage, error.what());
      }
    }
    return current;
  }

  PlanPtr start_join(const Branch& branch, const std::string& prefix, std::size_t& at) {
    if (branch.stages.empty() || branch.stages.front().op != "@join")
      throw Error("a branch with several inputs must start with @join");
    const Stage& first = branch.stages.front();
    try {
      internal::JoinStage stage = internal::parse_join(first.argument, branch.inputs);
      compile_expression(stage.predicate, &options_.functions);
      for (const auto& [name, key] : stage.index) compile_expression(key, &options_.functions);
      at = 1;
      // Selections right behind an inner join are further conditions of it.
      std::vector<json> parts = {stage.predicate};
      for (; options_.optimise && stage.soft.empty() && at < branch.stages.size() &&
             branch.stages[at].op == "@select";
           ++at) {
        if (!internal::is_total_condition(branch.stages[at].argument)) break;
        compile_expression(branch.stages[at].argument, &options_.functions);
        parts.push_back(branch.stages[at].argument);
      }
      if (parts.size() > 1) stage.predicate = {{"@and", parts}};
      std::map<std::string, PlanPtr> sources;
      for (const std::string& name : branch.inputs) sources[name] = stream(name);
      PlanPtr join = internal::plan_join(stage, sources, used_after(branch, at), prefix + "_join",
                                         options_.optimise);
      join->only_unmatched = options_.optimise && join->soft && keeps_unmatched(branch, at, *join);
      return join;
    } catch (const Error& error) {
      if (std::string_view(error.what()).starts_with("pipeline parse error")) throw;
      fail_stage(first, error.what());
    }
  }

  // True when the stage at `at` keeps only rows to which the soft join found nothing.
  static bool keeps_unmatched(const Branch& branch, std::size_t at, const PlanNode& join) {
    if (at >= branch.stages.size() || branch.stages[at].op != "@select") return false;
    // The first condition, because an `@and` does not look at the others when it is false.
    const auto parts = internal::conjuncts(branch.stages[at].argument);
    if (parts.empty() || !parts.front().is_object() || parts.front().size() != 1) return false;
    const json& argument = parts.front().begin().value();
    const json& path = argument.is_array() && argument.size() == 1 ? argument[0] : argument;
    if (parts.front().begin().key() != "@isnil" || !path.is_string()) return false;
    const auto& text = path.get_ref<const std::string&>();
    return Path::is_path(text) && !text.starts_with("$$") &&
           Path::parse(text).members() == std::vector<std::string>{join.right_name};
  }

  PlanPtr plan_stage(const Branch& branch, std::size_t& at, const std::string& label,
                     const PlanPtr& input) {
    const Stage& stage = branch.stages[at++];
    if (stage.op == "@select") {
      compile_expression(stage.argument, &options_.functions);
      if (options_.optimise && stage.argument == true) return input;
      auto result = node(PlanNode::Type::select, label, {input});
      result->argument = stage.argument;
      return result;
    }
    if (stage.op == "@project") {
      compile_projection(stage.argument, &options_.functions);
      auto result = node(PlanNode::Type::project, label, {input});
      result->argument = stage.argument;
      return result;
    }
    if (stage.op == "@unwind") {
      if (!stage.argument.is_string() || !stage.argument.get<std::string>().starts_with("$.") ||
          stage.argument == "$.")
        throw Error("a \"$.path\" string is expected");
      Path::parse(stage.argument.get<std::string>());
      auto result = node(PlanNode::Type::unwind, label, {input});
      result->argument = stage.argument;
      return result;
    }
    if (stage.op == "@distinct") {
      if (!stage.argument.is_null() && stage.argument != json::object())
        throw Error("@distinct takes no argument");
      if (options_.optimise && input->type == PlanNode::Type::distinct) return input;
      return node(PlanNode::Type::distinct, label, {input});
    }
    if (stage.op == "@groupBy") return plan_group(branch, at, label, input);
    if (stage.op == "@join") throw Error("@join must be the first stage of its branch");
    if (stage.op == "@gather" || stage.op == "@aggregate" || stage.op == "@mux")
      throw Error(stage.op + " is not supported; use @groupBy and @project");
    throw Error("unsupported pipeline operation " + stage.op);
  }

  PlanPtr plan_group(const Branch& branch, std::size_t& at, const std::string& label,
                     const PlanPtr& input) {
    const json& argument = branch.stages[at - 1].argument;
    if (!argument.is_array() || argument.size() < 2 || argument.size() > 3)
      throw Error("[key, value] or [key, value, options] is expected");
    if (argument[0].is_null()) throw Error("argument key: a key is required");
    auto result = node(PlanNode::Type::group, label, {input});
    result->key = argument[0];
    result->value = argument[1] == "$." || argument[1] == "$$." ? json(nullptr) : argument[1];
    if (argument.size() == 3) {
      if (!argument[2].is_object()) throw Error("argument options: an object is expected");
      for (const auto& [key, value] : argument[2].items()) {
        if (key != "distinct" || !value.is_boolean())
          throw Error("argument options: only {\"distinct\": true or false} is known");
        result->group_distinct = value.get<bool>();
      }
    }
    compile_expression(result->key, &options_.functions);
    if (!result->value.is_null()) compile_expression(result->value, &options_.functions);
    if (options_.optimise) fold_into(branch, at, *result);
    return result;
  }

  // A projection behind a group, and selections before it, become part of the group, so that only
  // what they read is kept and made.
  void fold_into(const Branch& branch, std::size_t& at, PlanNode& group) {
    std::size_t next = at;
    const auto foldable = [&](std::string_view op) {
      return next < branch.stages.size() && branch.stages[next].op == op &&
             !is_volatile(branch.stages[next].argument);
    };
    PlanNode folded = group;
    folded.values = folded.documents = false;
    for (; foldable("@select"); ++next) folded.filters.push_back(branch.stages[next].argument);
    if (foldable("@project")) {
      folded.projection = branch.stages[next].argument;
      check_folded(branch, at, folded);
      bool known = internal::extract_projection_aggregates(folded.projection, folded);
      for (json& filter : folded.filters)
        known = known && internal::extract_aggregates(filter, folded);
      if (known) {
        group = std::move(folded);
        at = next + 1;
        return;
      }
    }
    const Fields used = used_after(branch, at);
    group.documents = used.member("documents") != nullptr;
  }

  // The errors of stages that are folded are still those of the stages.
  void check_folded(const Branch& branch, std::size_t first, const PlanNode& folded) {
    std::size_t stage = first;
    try {
      for (const json& filter : folded.filters) {
        compile_expression(filter, &options_.functions);
        ++stage;
      }
      compile_projection(folded.projection, &options_.functions);
    } catch (const Error& error) {
      fail_stage(branch.stages[stage], error.what());
    }
  }

  const CompileOptions& options_;
  std::vector<Binding> sources_;
  std::vector<Binding> targets_;
  std::vector<Branch> branches_;
  std::map<std::string, PlanPtr> source_plans_;
  std::map<std::string, std::vector<PlanPtr>> produced_;
  std::map<std::string, PlanPtr> streams_;
};

}  // namespace

Plan make_plan(const json& program, const CompileOptions& options) {
  for (const auto& [name, function] : options.functions) {
    if (!name.starts_with('@') || name.size() < 2)
      throw Error("a host function needs a name that starts with @");
    bool taken = true;
    try {
      compile_expression({{name, json::array()}});
    } catch (const Error& error) {
      taken = std::string_view(error.what()).find("unknown operator") == std::string_view::npos;
    }
    if (taken) throw Error("host function " + name + ": the name is taken");
  }
  return Planner(program, options).run();
}

}  // namespace dmm::engine
