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
    internal::RowStore& store = left ? left_rows_ : right_rows_;
    Weight before;
    store.look(row);
    if ((left ? cell.left : cell.right).add(store, weight, before)) return true;
    return emit == nullptr || emit->context.overflow();
  }

  // Each row of the other side is unpacked once for all rows that meet it.
  std::size_t fold_all(Cell& cell, Rows rows, bool left, Emit& emit) override {
    bool ok = true;
    (left ? cell.right : cell.left)
        .ascend(left ? right_rows_ : left_rows_, [&](const internal::PackedRow& packed) {
          const Value other = packed.value();
          const Weight weight = packed.weight();
          for (const Row* row : rows)
            ok = ok && (left ? emit_pair(emit, row->value, other, row->weight, weight)
                             : emit_pair(emit, other, row->value, weight, row->weight));
          return ok;
        });
    return ok ? JoinBase::fold_all(cell, rows, left, emit) : 0;
  }
};

}  // namespace

OperatorPtr make_join(JoinSpec spec) {
  return std::make_unique<Join>(std::move(spec));
}

}  // namespace dmm::engine
