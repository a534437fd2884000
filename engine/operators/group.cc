#include "engine/operators/group_state_internal.h"
#include "engine/operators/hash_order_internal.h"
#include "engine/packed/packed_table_internal.h"

namespace dmm::engine {
namespace {

using internal::GroupCell;
using internal::GroupLogic;

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

  ~Group() override { Group::reset(); }

  // The members of one group are folded together: its row is made once before and once after them.
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) take(context, row);
    order_.assign(members_.size(), [this](std::size_t i) { return hash(members_[i].key); });
    while (applied_ < order_.size()) {
      groups_.prefetch_ahead(applied_, order_.size(),
                             [this](std::size_t i) { return order_.hash(i); });
      if (!fold_group(context, out)) return context.overflow();
    }
    return true;
  }

  void rollback() noexcept override {
    static const StepTime kNoTime;
    Scope scope(kNoTime);
    for (; applied_ > 0; --applied_) {
      const Member& last = member(applied_ - 1);
      Weight back;
      if (!negate_weight(last.weight, back)) continue;
      Held group(*this, last.key, order_.hash(applied_ - 1));
      static_cast<void>(logic_.fold(group.cell, scope, last.value, *last.row, back));
    }
    commit();
  }
  void commit() noexcept override {
    clear_buffer(members_);
    order_.clear();
    applied_ = 0;
  }
  void reset() override {
    groups_.each([this](const internal::PackedRow&, const std::uint8_t* payload) {
      GroupCell cell;
      std::memcpy(static_cast<void*>(&cell), payload, sizeof cell);
      logic_.clear(cell);
    });
    groups_.clear();
    commit();
  }
  std::size_t state_rows() const noexcept override { return logic_.rows(); }
  std::size_t state_bytes() const noexcept override { return logic_.bytes() + groups_.bytes(); }

  void save(StateWriter& writer) const override {
    writer.number(groups_.size());
    groups_.each([&](const internal::PackedRow& key, const std::uint8_t* payload) {
      GroupCell cell;
      std::memcpy(static_cast<void*>(&cell), payload, sizeof cell);
      writer.value(key.value());
      writer.batch(logic_.members(cell));
      writer.batch(logic_.documents(cell));
    });
  }
  // The folds are made again from the members: the image holds no sum that could disagree.
  bool load(StateReader& reader) override {
    reset();
    for (std::uint64_t i = 0, n = reader.number(); reader.ok() && i < n; ++i)
      if (!load_group(reader)) return false;
    return reader.ok();
  }

 private:
  /// A row of this step that belongs to a group.
  struct Member {
    Value key;
    Value value;
    Weight weight;
    const Row* row;  // of the batch, which lives until the step is committed
  };

  /// A group at hand. What becomes of it is stored when this goes out of scope, also by a failure.
  struct Held {
    Held(Group& owner, ValueRef key, std::uint32_t hash)
        : group(owner), place(owner.groups_.find(key, hash)) {
      if (!place) place = owner.groups_.insert(hash);
      std::memcpy(static_cast<void*>(&cell), owner.groups_.payload(place), sizeof cell);
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() {
      if (group.logic_.clean(cell)) {
        group.logic_.clear(cell);
        group.groups_.erase(place);
      } else {
        std::memcpy(group.groups_.payload(place), &cell, sizeof cell);
      }
    }
    Group& group;
    internal::PackedTable::Place place;
    GroupCell cell;
  };

  void take(StepContext& context, const Row& row) {
    Scope& scope = context.scope;
    scope.reset(row.value);
    scope.set_subject(row.value);
    Member made{{}, row.value, row.weight, &row};
    if (!spec_.key->eval(scope, made.key) ||
        (spec_.value && !spec_.value->eval(scope, made.value))) {
      context.report(row.value, scope.failure().message, row.weight);
      return;
    }
    made.key = made.key.canonical();
    members_.push_back(std::move(made));
  }

  const Member& member(std::size_t place) const noexcept { return members_[order_[place]]; }

  // Folds all members of the key at `applied_`.
  bool fold_group(StepContext& context, Batch& out) {
    const std::size_t end = order_.gather(applied_, members_, [this](std::size_t a, std::size_t b) {
      return members_[a].key == members_[b].key;
    });
    const Member& first = member(applied_);
    Held group(*this, first.key, order_.hash(applied_));
    Outcome before{group.cell.count > 0};
    if (before.exists) row_of(first.key, group.cell, context.scope, before);
    constexpr std::size_t kAhead = 4;
    for (; applied_ < end; ++applied_) {
      if (applied_ + kAhead < end) logic_.prefetch(group.cell, member(applied_ + kAhead).value);
      const Member& next = member(applied_);
      if (!logic_.fold(group.cell, context.scope, next.value, *next.row, next.weight)) return false;
    }
    Outcome after{group.cell.count > 0};
    if (after.exists) row_of(first.key, group.cell, context.scope, after);
    if (before == after) return true;
    put(context, first.key, std::move(before), -1, out);
    put(context, first.key, std::move(after), 1, out);
    return true;
  }

  /// What a group says: nothing, its row, or the reason why there is none.
  struct Outcome {
    bool exists = false;
    bool failed = false;
    Value what = {};
    bool operator==(const Outcome&) const = default;
  };

  void row_of(ValueRef key, const GroupCell& group, Scope& scope, Outcome& out) const {
    if (!logic_.row(key, group, scope, out.what)) {
      out.failed = true;
      out.what = Value::string(scope.failure().message);
    } else if (out.what.kind() != Kind::object && !out.what->is_null()) {
      out.failed = true;
      out.what = Value::string("a projection must give an object, not a " +
                               std::string(kind_name(out.what.kind())));
    }
  }

  void put(StepContext& context, const Value& key, Outcome outcome, Weight weight, Batch& out) {
    if (outcome.failed)
      context.report(Value::object(*error_shape_, {&key, 1}), outcome.what->as_string(), weight);
    else if (!outcome.what->is_null())
      out.push_back(Row{std::move(outcome.what), weight});
  }

  bool load_group(StateReader& reader) {
    static const StepTime kNoTime;
    Scope scope(kNoTime);
    const Value key = reader.value();
    const Batch members = reader.batch();
    const Batch documents = reader.batch();
    if (!reader.ok() || groups_.find(key)) return false;
    if (members.empty() && documents.empty()) return false;
    if (!documents.empty() && !logic_.keeps_documents()) return false;
    Held group(*this, key, hash(key));
    for (const Row& row : members)
      if (!logic_.fold_member(group.cell, scope, row.value, row.weight)) return false;
    for (const Row& row : documents)
      if (!logic_.add_document(group.cell, row.value, row.weight)) return false;
    return true;
  }

  GroupSpec spec_;
  GroupLogic logic_;
  ShapePtr error_shape_;
  internal::PackedTable groups_{sizeof(GroupCell)};
  std::vector<Member> members_;  // of this step, in the order in which they came
  internal::HashOrder order_;    // of the members, those of a key together
  std::size_t applied_ = 0;      // how many of them, in this order, are folded in
};

}  // namespace

OperatorPtr make_group(GroupSpec spec) {
  return std::make_unique<Group>(std::move(spec));
}

}  // namespace dmm::engine
