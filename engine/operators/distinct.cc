#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Distinct final : public Operator {
 public:
  std::string_view type() const noexcept override { return "distinct"; }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Distinct>()); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) {
      Weight before;
      if (!held_.add(row.value, row.weight, &before)) return context.overflow();
      undo_.push_back(row);
      const Weight after = before + row.weight;
      if (before <= 0 && after > 0) out.push_back(Row{row.value, 1});
      if (before > 0 && after <= 0) out.push_back(Row{row.value, -1});
    }
    return true;
  }
  void rollback() noexcept override {
    // In reverse, so that each addition undoes one that has just been possible.
    for (auto row = undo_.rbegin(); row != undo_.rend(); ++row)
      if (Weight back; negate_weight(row->weight, back))
        static_cast<void>(held_.add(row->value, back));
    undo_.clear();
  }
  void commit() noexcept override { undo_.clear(); }
  void reset() override {
    held_.clear();
    undo_.clear();
  }
  std::size_t state_rows() const noexcept override { return held_.size(); }
  void save(StateWriter& writer) const override { writer.zset(held_); }
  bool load(StateReader& reader) override { return reader.zset(held_); }

 private:
  Zset held_;
  Batch undo_;
};

}  // namespace

OperatorPtr make_distinct() {
  return std::make_unique<Distinct>();
}

}  // namespace dmm::engine
