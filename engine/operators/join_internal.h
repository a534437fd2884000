#pragma once

#include <utility>
#include <vector>

#include "engine/operators/operators.h"

namespace dmm::engine::internal {

/// What the inner and the soft join share: keys, the index of both sides by key, and compounds.
class JoinBase : public Operator {
 public:
  explicit JoinBase(JoinSpec spec);
  std::size_t arity() const noexcept override { return 2; }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  nlohmann::json describe() const override;
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override;
  void rollback() noexcept override;
  void commit() noexcept override;
  void reset() override;
  std::size_t state_rows() const noexcept override;
  void save(StateWriter& writer) const override;
  bool load(StateReader& reader) override;

 protected:
  struct Entry {
    Value key;
    Zset left;
    Zset right;
    Zset matches;                // soft join with a residual: left row -> matching right rows
    std::int64_t positives = 0;  // soft join: right rows with a weight above 0
    std::uint32_t hash() const noexcept { return engine::hash(key); }
    bool empty() const noexcept { return left.empty() && right.empty(); }
  };
  /// Where results go; without it (rollback, load) only the state is kept.
  struct Emit {
    StepContext& context;
    Batch& out;
  };
  virtual bool fold(Entry& entry, const Row& row, bool left, Emit* emit) = 0;
  /// A left row whose key is missing.
  virtual void keyless(const Row&, Batch&) const {}

  Value compound(ValueRef left, ValueRef right) const;
  /// False when the residual is not true of the pair; its failures are reported with `weight`.
  bool matches(StepContext& context, const Value& pair, Weight weight) const;
  bool emit_pair(Emit& emit, const Value& left, const Value& right, Weight a, Weight b) const;
  const JoinSpec& spec() const noexcept { return spec_; }

 private:
  bool key_of(StepContext& context, const Row& row, bool left, Value& key) const;
  std::uint32_t entry_of(const Value& key);
  bool fold_batch(StepContext& context, const Batch& batch, bool left, Batch& out);

  struct Applied {
    Value key;
    Row row;
    bool left;
  };
  JoinSpec spec_;
  ShapePtr shape_;
  std::vector<std::size_t> left_slots_;
  std::size_t right_slot_ = 0;
  ShapePtr left_shape_;  // of the wrapper that keys are evaluated on
  ShapePtr right_shape_;
  DenseMap<Entry> index_;
  std::vector<Applied> applied_;
  std::size_t rows_ = 0;
};

}  // namespace dmm::engine::internal
