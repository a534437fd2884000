#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/expression/builtins_internal.h"
#include "engine/expression/expression.h"
#include "engine/expression/path.h"
#include "engine/expression/regex_internal.h"

/// The nodes of compiled expressions that are more than a function of their arguments.
namespace dmm::engine::internal {

using Expressions = std::vector<ExpressionPtr>;

class ConstantNode final : public Expression {
 public:
  explicit ConstantNode(Value value) : value_(std::move(value)) {}
  bool eval(Scope&, Value& out) const override {
    out = value_;
    return true;
  }
  bool peek(Scope&, ValueRef& out, Value&) const override {
    out = value_;
    return true;
  }
  const Value* as_constant() const noexcept override { return &value_; }

 private:
  Value value_;
};

class PathNode final : public Expression {
 public:
  explicit PathNode(Path path)
      : path_(std::move(path)), direct_(path_.is_plain() && !path_.of_subject()) {}
  bool eval(Scope& scope, Value& out) const override { return read(path_, scope, out); }
  bool peek(Scope& scope, ValueRef& out, Value& kept) const override;
  const Path* as_path() const noexcept override { return &path_; }
  static bool read(const Path& path, Scope& scope, Value& out);

 private:
  Path path_;
  bool direct_;  // plain members of the document: to be borrowed where they stand
};

class CallNode final : public Expression {
 public:
  CallNode(const Builtin& builtin, Expressions arguments)
      : builtin_(builtin), arguments_(std::move(arguments)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  const Builtin& builtin_;
  Expressions arguments_;
};

class HostNode final : public Expression {
 public:
  HostNode(HostFunction function, Expressions arguments)
      : function_(std::move(function)), arguments_(std::move(arguments)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  HostFunction function_;
  Expressions arguments_;
};

class EqualNode final : public Expression {
 public:
  EqualNode(ExpressionPtr a, ExpressionPtr b, bool wanted)
      : a_(std::move(a)), b_(std::move(b)), wanted_(wanted) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ExpressionPtr a_;
  ExpressionPtr b_;
  bool wanted_;
};

/// `@lt`, `@lte`, `@gt` and `@gte`: numbers with numbers, texts with texts.
class OrderNode final : public Expression {
 public:
  /// below, equal: what it says of a smaller and of an equal `a`; a larger one is the opposite of a
  /// smaller one.
  OrderNode(ExpressionPtr a, ExpressionPtr b, bool below, bool equal)
      : a_(std::move(a)), b_(std::move(b)), below_(below), equal_(equal) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ExpressionPtr a_;
  ExpressionPtr b_;
  bool below_;
  bool equal_;
};

/// `@and` (stop at false) and `@or` (stop at true).
class JunctionNode final : public Expression {
 public:
  JunctionNode(Expressions parts, bool stop) : parts_(std::move(parts)), stop_(stop) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  Expressions parts_;
  bool stop_;
};

/// `@not` and `@bool`.
class TruthNode final : public Expression {
 public:
  TruthNode(ExpressionPtr inner, bool negated) : inner_(std::move(inner)), negated_(negated) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ExpressionPtr inner_;
  bool negated_;
};

/// `@cond` and `@switch`: the first result whose condition holds; `otherwise` may be null.
class ChoiceNode final : public Expression {
 public:
  ChoiceNode(std::vector<std::pair<ExpressionPtr, ExpressionPtr>> cases, ExpressionPtr otherwise)
      : cases_(std::move(cases)), otherwise_(std::move(otherwise)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> cases_;
  ExpressionPtr otherwise_;
};

class DefinedOrNode final : public Expression {
 public:
  explicit DefinedOrNode(Expressions parts) : parts_(std::move(parts)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  Expressions parts_;
};

class ListNode final : public Expression {
 public:
  explicit ListNode(Expressions items) : items_(std::move(items)) {}
  bool eval(Scope& scope, Value& out) const override;
  std::span<const ExpressionPtr> as_list() const noexcept override { return items_; }

 private:
  Expressions items_;
};

class DictNode final : public Expression {
 public:
  /// members: in the order of the shape's keys.
  DictNode(ShapePtr shape, Expressions members)
      : shape_(std::move(shape)), members_(std::move(members)) {}
  bool eval(Scope& scope, Value& out) const override;
  const Shape* as_object(std::span<const ExpressionPtr>& members) const noexcept override {
    members = members_;
    return shape_.get();
  }

 private:
  ShapePtr shape_;
  Expressions members_;
};

/// `@map` and `@filter`.
class EachNode final : public Expression {
 public:
  EachNode(ExpressionPtr each, ExpressionPtr list, bool filter)
      : each_(std::move(each)), list_(std::move(list)), filter_(filter) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ExpressionPtr each_;
  ExpressionPtr list_;
  bool filter_;
};

/// Part `index` of the object that a condition is asked about.
class PartNode final : public Expression {
 public:
  explicit PartNode(std::size_t index) : index_(index) {}
  bool eval(Scope& scope, Value& out) const override {
    out = Value(scope.parts()[index_]);
    return true;
  }
  bool peek(Scope& scope, ValueRef& out, Value&) const override {
    out = scope.parts()[index_];
    return true;
  }

 private:
  std::size_t index_;
};

/// `@filter` of a list of objects that is written out, by their members: an object is made only
/// when the condition, which reads its members as parts, is true.
class WrittenFilterNode final : public Expression {
 public:
  /// items: of each object the members, in the order of the shape's keys; one object after another.
  WrittenFilterNode(ShapePtr shape, Expressions items, ExpressionPtr condition)
      : shape_(std::move(shape)), items_(std::move(items)), condition_(std::move(condition)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ShapePtr shape_;
  Expressions items_;
  ExpressionPtr condition_;
  mutable std::vector<ValueRef> parts_;  // of all items in hand; empty between evaluations
  mutable std::vector<Value> kept_;
};

class SortNode final : public Expression {
 public:
  SortNode(ExpressionPtr comparator, ExpressionPtr list);
  bool eval(Scope& scope, Value& out) const override;

 private:
  bool before(Scope& scope, const Value& a, const Value& b, bool& out) const;
  ExpressionPtr comparator_;
  ExpressionPtr list_;
  ShapePtr pair_;
};

/// `@getField` and `@exists` of a path that is computed.
class DynamicPathNode final : public Expression {
 public:
  DynamicPathNode(ExpressionPtr path, bool exists) : path_(std::move(path)), exists_(exists) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  ExpressionPtr path_;
  bool exists_;
};

class ExistsNode final : public Expression {
 public:
  explicit ExistsNode(Path path) : path_(std::move(path)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  Path path_;
};

class SetFieldNode final : public Expression {
 public:
  SetFieldNode(Path path, ExpressionPtr value) : path_(std::move(path)), value_(std::move(value)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  Path path_;
  ExpressionPtr value_;
};

class NowNode final : public Expression {
 public:
  bool eval(Scope& scope, Value& out) const override;
};

/// `@regexp` with a constant pattern.
class RegexNode final : public Expression {
 public:
  RegexNode(Regex regex, ExpressionPtr text) : regex_(std::move(regex)), text_(std::move(text)) {}
  bool eval(Scope& scope, Value& out) const override;

 private:
  Regex regex_;
  ExpressionPtr text_;
};

}  // namespace dmm::engine::internal
