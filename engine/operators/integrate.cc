#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Integrate final : public Operator {
 public:
  std::string_view type() const noexcept override { return "integrate"; }
  Linearity linearity() const noexcept override { return Linearity::integral; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Integrate>()); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) {
      if (!sum_.add(row.value, row.weight)) return context.overflow();
      undo_.push_back(row);
    }
    out.reserve(sum_.size());
    for (std::size_t i = 0; i < sum_.size(); ++i) out.push_back(sum_.row(i));
    return true;
  }
  bool wants_step() const noexcept override { return !sum_.empty(); }
  void rollback() noexcept override {
    for (auto row = undo_.rbegin(); row != undo_.rend(); ++row)
      if (Weight back; negate_weight(row->weight, back))
        static_cast<void>(sum_.add(row->value, back));
    undo_.clear();
  }
  void commit() noexcept override { undo_.clear(); }
  void reset() override {
    sum_.clear();
    undo_.clear();
  }
  std::size_t state_rows() const noexcept override { return sum_.size(); }
  void save(StateWriter& writer) const override { writer.zset(sum_); }
  bool load(StateReader& reader) override { return reader.zset(sum_); }

 private:
  Zset sum_;
  Batch undo_;
};

}  // namespace

OperatorPtr make_integrate() {
  return std::make_unique<Integrate>();
}

}  // namespace dmm::engine
