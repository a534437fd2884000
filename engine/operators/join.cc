#include "engine/operators/join_internal.h"

namespace dmm::engine {
namespace {

class Join final : public internal::JoinBase {
 public:
  explicit Join(JoinSpec spec) : JoinBase(std::move(spec), kInnerBytes) {}
  std::string_view type() const noexcept override {
    return spec().left.keys.empty() ? "cartesian" : "equi_join";
  }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Join>(spec())); }

 private:
  bool fold(Cell& cell, ValueRef row, Weight weight, bool left, Emit* emit) override {
    if (emit != nullptr && !emit_matches(cell, row, weight, left, *emit)) return false;
    internal::RowStore& store = left ? left_rows_ : right_rows_;
    Weight before;
    store.look(row);
    if ((left ? cell.left : cell.right).add(store, weight, before)) return true;
    return emit == nullptr || emit->context.overflow();
  }

  bool emit_matches(const Cell& cell, ValueRef row, Weight weight, bool left, Emit& emit) const {
    bool ok = true;
    (left ? cell.right : cell.left)
        .ascend(left ? right_rows_ : left_rows_, [&](const internal::PackedRow& other) {
          const Value value = other.value();
          ok = left ? emit_pair(emit, row, value, weight, other.weight())
                    : emit_pair(emit, value, row, other.weight(), weight);
          return ok;
        });
    return ok;
  }
};

}  // namespace

OperatorPtr make_join(JoinSpec spec) {
  return std::make_unique<Join>(std::move(spec));
}

}  // namespace dmm::engine
