#include "engine/operators/group_state_internal.h"
#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

using internal::GroupLogic;
using internal::GroupState;

class Group final : public Operator {
 public:
  explicit Group(GroupSpec spec)
      : spec_(std::move(spec)), logic_(spec_), error_shape_(Shape::make({Value::string("key")})) {}
  std::string_view type() const noexcept override {
    return spec_.aggregates.empty() ? "group_by" : "aggregate";
  }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  nlohmann::json describe() const override { return spec_.source; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Group>(spec_)); }

  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0])
      if (!take(context, row)) return context.overflow();
    for (Touched& touched : touched_) emit(context, touched, out);
    for (Touched& touched : touched_) groups_[touched.at].touched = 0;
    for (const Touched& touched : touched_)
      if (groups_[touched.at].clean()) gone_.push_back(groups_[touched.at].key);
    touched_.clear();
    erase_gone();
    return true;
  }

  // The groups of a failed row that stay empty behind are found by their touch.
  void rollback() noexcept override {
    static const StepTime kNoTime;
    Scope scope(kNoTime);
    for (Touched& touched : touched_) {
      groups_[touched.at].touched = 0;
      gone_.push_back(groups_[touched.at].key);
    }
    touched_.clear();
    for (auto applied = applied_.rbegin(); applied != applied_.rend(); ++applied) {
      Weight back;
      if (!negate_weight(applied->weight, back)) continue;
      GroupState& group = groups_[find_or_add(applied->key)];
      static_cast<void>(logic_.fold(group, scope, applied->value, applied->document, back));
      if (group.clean()) gone_.push_back(applied->key);
    }
    erase_gone();
    applied_.clear();
  }
  void commit() noexcept override { applied_.clear(); }
  void reset() override {
    groups_.clear();
    applied_.clear();
    touched_.clear();
  }
  std::size_t state_rows() const noexcept override { return groups_.size(); }

  void save(StateWriter& writer) const override {
    writer.number(groups_.size());
    for (std::uint32_t i = 0; i < groups_.size(); ++i) {
      const GroupState& group = groups_[i];
      writer.value(group.key);
      writer.batch(logic_.ordered() ? group.members.rows() : group.plain.rows());
      writer.batch(group.documents.rows());
    }
  }
  // The folds are made again from the members: the image holds no sum that could disagree.
  bool load(StateReader& reader) override {
    static const StepTime kNoTime;
    Scope scope(kNoTime);
    reset();
    for (std::uint64_t i = 0, n = reader.number(); reader.ok() && i < n; ++i) {
      const Value key = reader.value();
      const Batch members = reader.batch();
      const Batch documents = reader.batch();
      if (!reader.ok() || find(key) != DenseMap<GroupState>::kNone) return false;
      if (members.empty() && documents.empty()) return false;
      GroupState& group = groups_[find_or_add(key)];
      for (const Row& row : members)
        if (!logic_.fold(group, scope, row.value, Value(), row.weight)) return false;
      group.documents = OrderedBag();
      Weight ignored;
      for (const Row& row : documents)
        if (!group.documents.add(row.value, row.weight, ignored)) return false;
    }
    return reader.ok();
  }

 private:
  struct Touched {
    std::uint32_t at;
    bool existed;
    bool failed;
    Value before;  // row, or the reason when it failed
  };
  struct Applied {
    Value key;
    Value value;
    Value document;
    Weight weight;
  };

  std::uint32_t find(const Value& key) const {
    return groups_.find(hash(key), [&](const GroupState& group) { return group.key == key; });
  }
  std::uint32_t find_or_add(const Value& key) {
    const std::uint32_t at = find(key);
    if (at != DenseMap<GroupState>::kNone) return at;
    GroupState group;
    group.key = key;
    return groups_.insert(std::move(group));
  }

  bool take(StepContext& context, const Row& row) {
    Scope& scope = context.scope;
    scope.reset(row.value);
    scope.set_subject(row.value);
    Value key;
    Value value = row.value;
    if (!spec_.key->eval(scope, key) || (spec_.value && !spec_.value->eval(scope, value))) {
      context.report(row.value, scope.failure().message, row.weight);
      return true;
    }
    const std::uint32_t at = find_or_add(key.canonical());
    GroupState& group = groups_[at];
    if (group.touched == 0) {
      Touched touched{at, group.count > 0, false, {}};
      if (touched.existed) touched.failed = !row_of(group, scope, touched.before);
      touched_.push_back(std::move(touched));
      group.touched = static_cast<std::uint32_t>(touched_.size());
    }
    if (!logic_.fold(group, scope, value, row.value, row.weight)) return false;
    applied_.push_back(Applied{group.key, std::move(value),
                               logic_.keeps_documents() ? row.value : Value(), row.weight});
    return true;
  }

  bool row_of(const GroupState& group, Scope& scope, Value& out) const {
    if (logic_.row(group, scope, out)) {
      if (out.kind() == Kind::object || out->is_null()) return true;
      out = Value::string("a projection must give an object, not a " +
                          std::string(kind_name(out.kind())));
      return false;
    }
    out = Value::string(scope.failure().message);
    return false;
  }

  void emit(StepContext& context, Touched& touched, Batch& out) {
    const GroupState& group = groups_[touched.at];
    const bool exists = group.count > 0;
    bool failed = false;
    Value after;
    if (exists) failed = !row_of(group, context.scope, after);
    if (touched.existed == exists && touched.failed == failed && touched.before == after) return;
    if (touched.existed) put(context, group, touched.failed, std::move(touched.before), -1, out);
    if (exists) put(context, group, failed, std::move(after), 1, out);
  }

  void put(StepContext& context, const GroupState& group, bool failed, Value what, Weight weight,
           Batch& out) {
    if (failed)
      context.report(Value::object(*error_shape_, {&group.key, 1}), what->as_string(), weight);
    else if (!what->is_null())
      out.push_back(Row{std::move(what), weight});
  }

  void erase_gone() {
    for (const Value& key : gone_)
      if (const std::uint32_t at = find(key);
          at != DenseMap<GroupState>::kNone && groups_[at].clean())
        groups_.erase(at);
    gone_.clear();
  }

  GroupSpec spec_;
  GroupLogic logic_;
  ShapePtr error_shape_;
  DenseMap<GroupState> groups_;
  std::vector<Touched> touched_;
  std::vector<Applied> applied_;
  std::vector<Value> gone_;
};

}  // namespace

OperatorPtr make_group(GroupSpec spec) {
  return std::make_unique<Group>(std::move(spec));
}

}  // namespace dmm::engine
