#include "engine/expression/nodes_internal.h"

#include <cstdio>

#include "engine/error.h"
#include "engine/expression/coerce_internal.h"

namespace dmm::engine::internal {
namespace {

// Evaluated arguments without an allocation for the usual few.
class Evaluated {
 public:
  bool eval(const Expressions& expressions, Scope& scope) {
    Value* to = few_;
    if (expressions.size() > kFew) {
      many_.resize(expressions.size());
      to = many_.data();
    }
    for (std::size_t i = 0; i < expressions.size(); ++i)
      if (!expressions[i]->eval(scope, to[i])) return false;
    values_ = {to, expressions.size()};
    return true;
  }
  Arguments values() const { return values_; }

 private:
  static constexpr std::size_t kFew = 4;
  Value few_[kFew];
  std::vector<Value> many_;
  Arguments values_;
};

// Puts the subject back where a nested iterator changed it.
class SubjectGuard {
 public:
  explicit SubjectGuard(Scope& scope)
      : scope_(scope), subject_(scope.subject()), had_(scope.has_subject()) {}
  SubjectGuard(const SubjectGuard&) = delete;
  SubjectGuard& operator=(const SubjectGuard&) = delete;
  ~SubjectGuard() { scope_.set_subject(subject_, had_); }

 private:
  Scope& scope_;
  ValueRef subject_;
  bool had_;
};

bool eval_list(const Expression& expression, Scope& scope, std::string_view name, Value& out) {
  if (!expression.eval(scope, out)) return false;
  if (out->is_null() || out.kind() == Kind::list) return true;
  return scope.fail(std::string(name) + ": the second argument must be a list");
}

}  // namespace

bool PathNode::read(const Path& path, Scope& scope, Value& out) {
  if (!path.of_subject()) {
    if (path.is_root()) {
      out = Value(scope.document());
      return true;
    }
    return path.get(scope.document(), out) || scope.fail_missing(path.text());
  }
  if (path.is_root()) {
    out = Value(scope.subject());
    return true;
  }
  if (!scope.has_subject()) return scope.fail("there is no subject for " + path.text());
  const Kind kind = scope.subject().kind;
  if (kind != Kind::object && kind != Kind::list)
    return scope.fail("the subject of " + path.text() + " is a " + std::string(kind_name(kind)));
  return path.get(scope.subject(), out) || scope.fail_missing(path.text());
}

bool PathNode::peek(Scope& scope, ValueRef& out, Value& kept) const {
  if (!direct_) return Expression::peek(scope, out, kept);
  return path_.find(scope.document(), out) || scope.fail_missing(path_.text());
}

bool CallNode::eval(Scope& scope, Value& out) const {
  Evaluated arguments;
  return arguments.eval(arguments_, scope) && builtin_.function(scope, arguments.values(), out);
}

bool HostNode::eval(Scope& scope, Value& out) const {
  Evaluated arguments;
  if (!arguments.eval(arguments_, scope)) return false;
  std::string error;
  return function_(arguments.values(), out, error) || scope.fail(error);
}

bool EqualNode::eval(Scope& scope, Value& out) const {
  Value kept_a;
  Value kept_b;
  ValueRef a;
  ValueRef b;
  if (!a_->peek(scope, a, kept_a) || !b_->peek(scope, b, kept_b)) return false;
  out = Value::boolean(equal(a, b) == wanted_);
  return true;
}

bool OrderNode::eval(Scope& scope, Value& out) const {
  Value kept_a;
  Value kept_b;
  ValueRef a;
  ValueRef b;
  int order;
  if (!a_->peek(scope, a, kept_a) || !b_->peek(scope, b, kept_b) || !ordered(scope, a, b, order))
    return false;
  out = Value::boolean(order == 0 ? equal_ : (order < 0) == below_);
  return true;
}

bool JunctionNode::eval(Scope& scope, Value& out) const {
  for (const ExpressionPtr& part : parts_) {
    Value kept;
    ValueRef value;
    bool truth;
    if (!part->peek(scope, value, kept) || !to_bool(scope, value, truth)) return false;
    if (truth == stop_) {
      out = Value::boolean(stop_);
      return true;
    }
  }
  out = Value::boolean(!stop_);
  return true;
}

bool TruthNode::eval(Scope& scope, Value& out) const {
  Value kept;
  ValueRef value;
  bool truth;
  if (!inner_->peek(scope, value, kept) || !to_bool(scope, value, truth)) return false;
  out = Value::boolean(truth != negated_);
  return true;
}

bool ChoiceNode::eval(Scope& scope, Value& out) const {
  for (const auto& [condition, result] : cases_) {
    Value kept;
    ValueRef value;
    bool truth;
    if (!condition->peek(scope, value, kept) || !to_bool(scope, value, truth)) return false;
    if (truth) return result->eval(scope, out);
  }
  if (otherwise_) return otherwise_->eval(scope, out);
  out = Value();
  return true;
}

bool DefinedOrNode::eval(Scope& scope, Value& out) const {
  for (const ExpressionPtr& part : parts_) {
    if (part->eval(scope, out) && !out->is_null()) return true;
    scope.clear_failure();
  }
  out = Value();
  return true;
}

bool ListNode::eval(Scope& scope, Value& out) const {
  SlotsBuilder builder(items_.size());
  for (const ExpressionPtr& item : items_) {
    Value value;
    if (!item->eval(scope, value)) return false;
    builder.add(std::move(value));
  }
  out = builder.finish();
  return true;
}

bool DictNode::eval(Scope& scope, Value& out) const {
  SlotsBuilder builder(*shape_);
  for (const ExpressionPtr& member : members_) {
    Value value;
    if (!member->eval(scope, value)) return false;
    builder.add(std::move(value));
  }
  out = builder.finish();
  return true;
}

bool EachNode::eval(Scope& scope, Value& out) const {
  Value list;
  if (!eval_list(*list_, scope, filter_ ? "@filter" : "@map", list)) return false;
  const SubjectGuard guard(scope);
  std::vector<Value> result;
  for (std::size_t i = 0, n = list->size(); i < n; ++i) {
    scope.set_subject(list->at(i));
    Value value;
    if (!each_->eval(scope, value)) return false;
    if (filter_) {
      bool kept;
      if (!to_bool(scope, value, kept)) return false;
      if (kept) result.emplace_back(list->at(i));
    } else {
      result.push_back(std::move(value));
    }
  }
  out = Value::list(result);
  return true;
}

// All members of all items first: one that cannot be evaluated fails the whole, as for the list.
bool WrittenFilterNode::eval(Scope& scope, Value& out) const {
  struct Clear {
    const WrittenFilterNode& node;
    ~Clear() {
      node.parts_.clear();
      node.kept_.clear();
    }
  } clear{*this};
  const std::size_t width = shape_->size();
  parts_.reserve(items_.size());
  for (const ExpressionPtr& item : items_) {
    Value kept;
    ValueRef part;
    if (!item->peek(scope, part, kept)) return false;
    parts_.push_back(part.kind == Kind::real ? Value(part).canonical().ref() : part);
    if (counted(kept.kind())) kept_.push_back(std::move(kept));
  }
  std::vector<Value> chosen;
  for (std::size_t first = 0; first < items_.size(); first += width) {
    const std::span<const ValueRef> parts(parts_.data() + first, width);
    scope.set_parts(parts);
    Value kept;
    ValueRef value;
    if (!condition_->peek(scope, value, kept)) return false;
    bool truth = value.is_true();
    if (value.kind != Kind::boolean && !to_bool(scope, value, truth)) return false;
    if (truth)
      chosen.push_back(Value::object_of(*shape_, [&](std::size_t i) { return Value(parts[i]); }));
  }
  out = Value::list(chosen);
  return true;
}

SortNode::SortNode(ExpressionPtr comparator, ExpressionPtr list)
    : comparator_(std::move(comparator)),
      list_(std::move(list)),
      pair_(Shape::make({Value::string("a"), Value::string("b")})) {}

bool SortNode::before(Scope& scope, const Value& a, const Value& b, bool& out) const {
  const Value members[] = {a, b};
  const Value pair = Value::object(*pair_, members);
  scope.set_subject(pair);
  Value order;
  if (!comparator_->eval(scope, order)) return false;
  order = order.canonical();
  if (order.kind() != Kind::integer || order->as_integer() < -1 || order->as_integer() > 1)
    return scope.fail("@sortBy: the comparator must give -1, 0 or 1");
  out = order->as_integer() <= 0;
  return true;
}

// A merge sort of our own: stable, and safe whatever a comparator answers.
bool SortNode::eval(Scope& scope, Value& out) const {
  Value list;
  if (!eval_list(*list_, scope, "@sortBy", list)) return false;
  const SubjectGuard guard(scope);
  std::vector<Value> items;
  for (std::size_t i = 0, n = list->size(); i < n; ++i) items.emplace_back(list->at(i));
  std::vector<Value> merged(items.size());
  for (std::size_t width = 1; width < items.size(); width *= 2) {
    for (std::size_t from = 0; from < items.size(); from += 2 * width) {
      const std::size_t middle = std::min(from + width, items.size());
      const std::size_t end = std::min(from + 2 * width, items.size());
      std::size_t left = from;
      std::size_t right = middle;
      for (std::size_t to = from; to < end; ++to) {
        bool take_left = right == end;
        if (left < middle && right < end && !before(scope, items[left], items[right], take_left))
          return false;
        if (left == middle) take_left = false;
        merged[to] = take_left ? items[left++] : items[right++];
      }
    }
    items.swap(merged);
  }
  out = Value::list(items);
  return true;
}

bool DynamicPathNode::eval(Scope& scope, Value& out) const {
  Value text;
  if (!path_->eval(scope, text)) return false;
  if (text.kind() != Kind::string) return scope.fail("a path must be a string");
  try {
    const Path path = Path::parse(text->as_string());
    if (!exists_) return PathNode::read(path, scope, out);
    out = Value::boolean(path.exists(path.of_subject() ? scope.subject() : scope.document()));
    return true;
  } catch (const Error& error) {
    return scope.fail(error.what());
  }
}

bool ExistsNode::eval(Scope& scope, Value& out) const {
  out = Value::boolean(path_.exists(path_.of_subject() ? scope.subject() : scope.document()));
  return true;
}

bool SetFieldNode::eval(Scope& scope, Value& out) const {
  Value value;
  if (!value_->eval(scope, value)) return false;
  std::string error;
  const ValueRef root = path_.of_subject() ? scope.subject() : scope.document();
  Value changed;
  if (!path_.set(root, value, changed, error)) return scope.fail(error);
  out = changed;
  if (path_.of_subject())
    scope.replace_subject(std::move(changed));
  else
    scope.replace_document(std::move(changed));
  return true;
}

// Days to civil date in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level
// date algorithms", days from 0000-03-01).
bool NowNode::eval(Scope& scope, Value& out) const {
  const std::int64_t seconds = scope.time().unix_seconds;
  std::int64_t days = seconds / 86400;
  std::int64_t rest = seconds % 86400;
  if (rest < 0) {
    rest += 86400;
    --days;
  }
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const std::int64_t day_of_era = days - era * 146097;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const std::int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t shifted = (5 * day_of_year + 2) / 153;
  const std::int64_t day = day_of_year - (153 * shifted + 2) / 5 + 1;
  const std::int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  const std::int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  if (year < 0 || year > 9999)
    return scope.fail("@now: the time of the step is outside of the years 0 to 9999");
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", static_cast<int>(year),
                static_cast<int>(month), static_cast<int>(day), static_cast<int>(rest / 3600),
                static_cast<int>(rest / 60 % 60), static_cast<int>(rest % 60));
  out = Value::string(text);
  return true;
}

bool RegexNode::eval(Scope& scope, Value& out) const {
  Value text;
  if (!text_->eval(scope, text)) return false;
  out = Value::boolean(text.kind() == Kind::string ? regex_.search(text->as_string())
                                                   : regex_.search(to_string(text)));
  return true;
}

}  // namespace dmm::engine::internal
