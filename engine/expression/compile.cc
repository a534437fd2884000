#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "engine/expression/coerce_internal.h"
#include "engine/expression/nodes_internal.h"
#include "engine/limits.h"

namespace dmm::engine {
namespace {

using nlohmann::json;
using namespace internal;

const Builtin* find_builtin(std::string_view name) {
  for (const auto table : {arithmetic_builtins(), text_builtins(), list_builtins()})
    for (const Builtin& builtin : table)
      if (builtin.name == name) return &builtin;
  return nullptr;
}

class Compiler {
 public:
  explicit Compiler(const HostFunctions* functions) : functions_(functions) {}

  ExpressionPtr compile(const json& source) {
    if (++depth_ > limits::kDepthMax)
      throw Error("expression nested deeper than " + std::to_string(limits::kDepthMax));
    ExpressionPtr result = dispatch(source);
    --depth_;
    return result;
  }

 private:
  using Handler = ExpressionPtr (Compiler::*)(const std::string&, const json&);

  ExpressionPtr dispatch(const json& source) {
    if (source.is_string()) {
      const auto& text = source.get_ref<const std::string&>();
      if (parts_ != nullptr && text.starts_with("$$"))
        return std::make_shared<PartNode>(static_cast<std::size_t>(part(*parts_, text)));
      if (Path::is_path(text)) return std::make_shared<PathNode>(Path::parse(text));
      return constant(from_json(source));
    }
    if (source.is_array()) return list(compile_all(source));
    if (!source.is_object()) return constant(from_json(source));
    if (source.size() == 1 && source.begin().key().starts_with('@'))
      return call(source.begin().key(), source.begin().value());
    return dict(source);
  }

  static ExpressionPtr constant(Value value) {
    return std::make_shared<ConstantNode>(std::move(value));
  }

  Expressions compile_all(const json& items) {
    Expressions result;
    for (const json& item : items) result.push_back(compile(item));
    return result;
  }

  ExpressionPtr list(Expressions items) {
    std::vector<Value> values;
    for (const ExpressionPtr& item : items) {
      if (item->as_constant() == nullptr) return std::make_shared<ListNode>(std::move(items));
      values.push_back(*item->as_constant());
    }
    return constant(Value::list(values));
  }

  ExpressionPtr dict(const json& members) {
    std::vector<Value> keys;
    Expressions expressions;
    bool constants = true;
    std::vector<Value> values;
    for (const auto& [key, value] : members.items()) {  // nlohmann sorts keys by bytes
      keys.push_back(Value::string(key));
      expressions.push_back(compile(value));
      constants = constants && expressions.back()->as_constant() != nullptr;
      if (constants) values.push_back(*expressions.back()->as_constant());
    }
    ShapePtr shape(Shape::make(std::move(keys)));
    if (constants) return constant(Value::object(*shape, values));
    return std::make_shared<DictNode>(std::move(shape), std::move(expressions));
  }

  // The arguments by the rule of the language: a list is all of them, anything else is the only
  // one; a unary operator takes [x] as x.
  Expressions arguments(const std::string& name, const json& source, int min, int max) {
    Expressions result;
    if (source.is_array())
      result = compile_all(source);
    else if (!(min == 0 && (source.is_null() || source == json::object())))
      result.push_back(compile(source));
    const auto count = static_cast<int>(result.size());
    if (count < min || (max >= 0 && count > max)) {
      std::string expected = std::to_string(min);
      if (max != min) expected += max < 0 ? " or more" : " to " + std::to_string(max);
      throw Error(name + " takes " + expected + " argument" + (expected == "1" ? "" : "s") +
                  ", not " + std::to_string(count));
    }
    return result;
  }

  ExpressionPtr call(const std::string& name, const json& argument) {
    static const std::map<std::string, Handler, std::less<>> kSpecial = {
        {"@nil", &Compiler::nil},
        {"@noop", &Compiler::nil},
        {"@bool", &Compiler::boolean},
        {"@list", &Compiler::list_of},
        {"@dict", &Compiler::dict_of},
        {"@literal", &Compiler::literal},
        {"@getField", &Compiler::get},
        {"@exists", &Compiler::get},
        {"@setField", &Compiler::set},
        {"@copy", &Compiler::root},
        {"@subject", &Compiler::root},
        {"@and", &Compiler::junction},
        {"@or", &Compiler::junction},
        {"@not", &Compiler::negation},
        {"@cond", &Compiler::condition},
        {"@switch", &Compiler::switch_of},
        {"@definedOr", &Compiler::defined_or},
        {"@eq", &Compiler::equality},
        {"@neq", &Compiler::equality},
        {"@lt", &Compiler::order},
        {"@lte", &Compiler::order},
        {"@gt", &Compiler::order},
        {"@gte", &Compiler::order},
        {"@map", &Compiler::each},
        {"@filter", &Compiler::each},
        {"@sortBy", &Compiler::sort},
        {"@now", &Compiler::now},
        {"@regexp", &Compiler::regexp},
    };
    if (const auto it = kSpecial.find(name); it != kSpecial.end())
      return (this->*it->second)(name, argument);
    if (const Builtin* builtin = find_builtin(name))
      return std::make_shared<CallNode>(*builtin,
                                        arguments(name, argument, builtin->min, builtin->max));
    if (functions_ != nullptr)
      if (const auto it = functions_->find(name); it != functions_->end())
        return std::make_shared<HostNode>(it->second, arguments(name, argument, 0, -1));
    throw Error("unknown operator " + name);
  }

  void require_nothing(const std::string& name, const json& argument) {
    if (!argument.is_null() && argument != json::object() && argument != json::array())
      throw Error(name + " takes no argument");
  }

  ExpressionPtr nil(const std::string& name, const json& argument) {
    require_nothing(name, argument);
    return constant({});
  }
  ExpressionPtr now(const std::string& name, const json& argument) {
    require_nothing(name, argument);
    return std::make_shared<NowNode>();
  }
  ExpressionPtr root(const std::string& name, const json& argument) {
    require_nothing(name, argument);
    return std::make_shared<PathNode>(Path::parse(name == "@copy" ? "$." : "$$."));
  }
  ExpressionPtr boolean(const std::string& name, const json& argument) {
    if (argument.is_boolean()) return constant(from_json(argument));
    if (argument.is_number() ||
        (argument.is_string() && !Path::is_path(argument.get<std::string>())))
      throw Error("@bool: a literal must be a boolean, not " + argument.dump());
    return std::make_shared<TruthNode>(arguments(name, argument, 1, 1)[0], false);
  }
  ExpressionPtr negation(const std::string& name, const json& argument) {
    return std::make_shared<TruthNode>(arguments(name, argument, 1, 1)[0], true);
  }
  ExpressionPtr list_of(const std::string& name, const json& argument) {
    return list(arguments(name, argument, 0, -1));
  }
  ExpressionPtr dict_of(const std::string& name, const json& argument) {
    if (!argument.is_object()) throw Error(name + " takes an object");
    return dict(argument);
  }
  ExpressionPtr literal(const std::string&, const json& argument) {
    return constant(from_json(argument));
  }

  ExpressionPtr get(const std::string& name, const json& argument) {
    const bool exists = name == "@exists";
    if (argument.is_string()) {
      Path path = Path::parse(argument.get<std::string>());
      if (exists) return std::make_shared<ExistsNode>(std::move(path));
      return std::make_shared<PathNode>(std::move(path));
    }
    Expressions paths = arguments(name, argument, 1, 1);
    if (const Value* fixed = paths[0]->as_constant()) {
      if (fixed->kind() != Kind::string) throw Error(name + ": a path must be a string");
      Path::parse((*fixed)->as_string());
    }
    return std::make_shared<DynamicPathNode>(std::move(paths[0]), exists);
  }

  ExpressionPtr set(const std::string& name, const json& argument) {
    if (!argument.is_array() || argument.size() != 2 || !argument[0].is_string())
      throw Error(name + " takes [path, value]");
    Path path = Path::parse(argument[0].get<std::string>());
    if (path.is_root()) throw Error(name + ": the root cannot be set");
    return std::make_shared<SetFieldNode>(std::move(path), compile(argument[1]));
  }

  ExpressionPtr junction(const std::string& name, const json& argument) {
    return std::make_shared<JunctionNode>(arguments(name, argument, 0, -1), name == "@or");
  }
  ExpressionPtr condition(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 3, 3);
    return std::make_shared<ChoiceNode>(
        std::vector<std::pair<ExpressionPtr, ExpressionPtr>>{{parts[0], parts[1]}}, parts[2]);
  }
  ExpressionPtr switch_of(const std::string& name, const json& argument) {
    if (!argument.is_array()) throw Error(name + " takes a list of [case, result] pairs");
    std::vector<std::pair<ExpressionPtr, ExpressionPtr>> cases;
    for (const json& pair : argument) {
      if (!pair.is_array() || pair.size() != 2)
        throw Error(name + " takes a list of [case, result] pairs");
      ExpressionPtr when = compile(pair[0]);
      cases.emplace_back(std::move(when), compile(pair[1]));
    }
    return std::make_shared<ChoiceNode>(std::move(cases), nullptr);
  }
  ExpressionPtr defined_or(const std::string& name, const json& argument) {
    return std::make_shared<DefinedOrNode>(arguments(name, argument, 0, -1));
  }
  ExpressionPtr equality(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 2, 2);
    return std::make_shared<EqualNode>(parts[0], parts[1], name == "@eq");
  }
  ExpressionPtr order(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 2, 2);
    return std::make_shared<OrderNode>(parts[0], parts[1], name.starts_with("@lt"),
                                       name.ends_with("te"));
  }
  ExpressionPtr each(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 2, 2);
    if (name == "@filter")
      if (ExpressionPtr written = written_filter(argument[0], *parts[1])) return written;
    return std::make_shared<EachNode>(parts[0], parts[1], name == "@filter");
  }
  // See WrittenFilterNode; null when the list or the condition is of another make.
  ExpressionPtr written_filter(const json& condition, const Expression& list) {
    const Shape* shape = nullptr;
    Expressions all;
    for (const ExpressionPtr& item : list.as_list()) {
      std::span<const ExpressionPtr> members;
      const Shape* made = item->as_object(members);
      if (made == nullptr || (shape != nullptr && !shape->same_keys(*made))) return nullptr;
      shape = made;
      all.insert(all.end(), members.begin(), members.end());
    }
    if (all.empty() || !reads_parts_only(condition, *shape)) return nullptr;
    parts_ = shape;
    ExpressionPtr compiled = compile(condition);
    parts_ = nullptr;
    return std::make_shared<WrittenFilterNode>(ShapePtr::share(*shape), std::move(all),
                                               std::move(compiled));
  }

  // The member of the subject that a path names, or -1.
  static std::int32_t part(const Shape& shape, const std::string& text) {
    const Path path = Path::parse(text);
    const auto names = path.members();
    return names && names->size() == 1 ? shape.find(names->front()) : -1;
  }

  // True when the condition is made of operators that compile their arguments as they stand, and
  // reads nothing of the subject but these members.
  static bool reads_parts_only(const json& condition, const Shape& shape) {
    static const std::set<std::string, std::less<>> kTransparent = {
        "@eq", "@neq", "@lt", "@lte", "@gt", "@gte", "@and", "@or", "@not", "@isnil"};
    if (condition.is_string()) {
      const auto& text = condition.get_ref<const std::string&>();
      return !text.starts_with("$$") || (Path::is_path(text) && part(shape, text) >= 0);
    }
    if (!condition.is_structured()) return true;
    if (condition.is_object())
      if (condition.size() != 1 || !kTransparent.contains(condition.begin().key())) return false;
    return std::all_of(condition.begin(), condition.end(),
                       [&](const json& below) { return reads_parts_only(below, shape); });
  }

  ExpressionPtr sort(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 2, 2);
    return std::make_shared<SortNode>(parts[0], parts[1]);
  }
  ExpressionPtr regexp(const std::string& name, const json& argument) {
    Expressions parts = arguments(name, argument, 2, 2);
    if (const Value* pattern = parts[0]->as_constant();
        pattern != nullptr && pattern->kind() == Kind::string) {
      try {
        return std::make_shared<RegexNode>(Regex((*pattern)->as_string()), parts[1]);
      } catch (const Error&) {
        // A bad pattern is an error of the evaluation, so that @definedOr can catch it.
      }
    }
    return std::make_shared<CallNode>(*find_builtin(name), std::move(parts));
  }

  const HostFunctions* functions_;
  std::size_t depth_ = 0;
  const Shape* parts_ = nullptr;  // of the object whose members `$$` names, in written_filter
};

}  // namespace

ExpressionPtr compile_expression(const json& source, const HostFunctions* functions) {
  return Compiler(functions).compile(source);
}

bool is_volatile(const json& source) {
  if (source.is_object() && source.size() == 1) {
    const std::string& key = source.begin().key();
    if (key == "@now" || key == "@rnd") return true;
    if (key == "@literal") return false;
  }
  if (!source.is_structured()) return false;
  for (const json& item : source)
    if (is_volatile(item)) return true;
  return false;
}

bool eval_predicate(const Expression& predicate, Scope& scope, bool& failed) {
  Value result;
  failed = false;
  if (predicate.eval(scope, result)) return result->is_true();
  failed = scope.failure().type != Failure::Type::missing_field;
  return false;
}

}  // namespace dmm::engine
