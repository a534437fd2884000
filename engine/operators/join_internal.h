#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "engine/operators/hash_order_internal.h"
#include "engine/operators/operators.h"
#include "engine/packed/packed_bag_internal.h"
#include "engine/packed/packed_table_internal.h"

namespace dmm::engine::internal {

/// What the inner and the soft join share: keys, the index of both sides by key, and compounds.
class JoinBase : public Operator {
 public:
  ~JoinBase() override { JoinBase::reset(); }
  std::size_t arity() const noexcept override { return 2; }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  nlohmann::json describe() const override;
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override;
  void rollback() noexcept override;
  void commit() noexcept override;
  void reset() override;
  std::size_t state_rows() const noexcept override;
  std::size_t state_bytes() const noexcept override;
  void save(StateWriter& writer) const override;
  bool load(StateReader& reader) override;

 protected:
  /// What is kept for one key. The table stores only as much of it as the kind of join uses.
  struct Cell {
    PackedBag left;
    PackedBag right;
    std::int64_t positives = 0;  ///< soft join: right rows with a weight above 0
    PackedBag matches;           ///< soft join with a residual: left row -> matching right rows
    bool empty() const noexcept { return left.empty() && right.empty(); }
  };
  static constexpr std::size_t kInnerBytes = offsetof(Cell, positives);
  static constexpr std::size_t kSoftBytes = offsetof(Cell, matches);

  JoinBase(JoinSpec&& spec, std::size_t cell_bytes);

  /// Where results go; without it (rollback) only the state is kept.
  struct Emit {
    StepContext& context;
    Batch& out;
  };
  virtual bool fold(Cell& cell, ValueRef row, Weight weight, bool left, Emit* emit) = 0;
  /// Folds rows of one key and one side. returns how many are in when it stops; fewer than all only
  /// when the step fails.
  using Rows = std::span<const Row* const>;
  virtual std::size_t fold_all(Cell& cell, Rows rows, bool left, Emit& emit);
  /// A left row whose key is missing.
  virtual void keyless(const Row&, Batch&) const {}

  Value compound(ValueRef left, ValueRef right) const;
  /// False when the residual is not true of the pair; its failures are reported with `weight`.
  bool matches(StepContext& context, const Value& pair, Weight weight) const;
  bool emit_pair(Emit& emit, ValueRef left, ValueRef right, Weight a, Weight b) const;
  const JoinSpec& spec() const noexcept { return spec_; }

  RowStore left_rows_;
  RowStore right_rows_;
  RowStore match_rows_;

 private:
  struct Held;
  struct Keyed {
    Value key;
    std::uint32_t hash;
    bool left;
    const Row* row;  // of the batch, which lives until the step is committed
  };
  bool key_of(StepContext& context, const Row& row, bool left, Value& key);
  bool key_part(StepContext& context, const Row& row, bool left, std::size_t index,
                Value& part) const;
  void evaluate_keys(StepContext& context, const Batch& batch, bool left, Batch& out);
  void prefetch_rows() const noexcept;
  bool fold_key(Emit& emit);
  void unfold(const Keyed& keyed) noexcept;
  Batch rows_of(const PackedBag& bag, const RowStore& store) const;

  JoinSpec spec_;
  std::size_t cell_bytes_;
  ShapePtr shape_;
  static constexpr std::size_t kRight = ~std::size_t{0};
  std::vector<std::size_t> parts_;  // of a compound: the right row, or which part of the left one
  ShapePtr left_shape_;             // of the wrapper that keys are evaluated on
  ShapePtr right_shape_;
  // Keys that are plain paths into the document are read without an evaluation; else null.
  std::vector<const Path*> left_paths_;
  std::vector<const Path*> right_paths_;
  PackedTable index_;
  std::vector<Keyed> keyed_;       // the rows of this step that have a key; left ones first
  HashOrder order_;                // the order in which they are folded
  std::size_t applied_ = 0;        // how many of them, in this order, are in
  std::vector<const Row*> alike_;  // those of one key and side
};

}  // namespace dmm::engine::internal
