#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Differentiate final : public Operator {
 public:
  std::string_view type() const noexcept override { return "differentiate"; }
  Linearity linearity() const noexcept override { return Linearity::integral; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Differentiate>()); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    next_ = *in[0];
    out = next_;
    for (const Row& row : previous_) {
      Weight weight;
      if (!negate_weight(row.weight, weight)) return context.overflow();
      out.push_back(Row{row.value, weight});
    }
    return consolidate(out) || context.overflow();
  }
  bool wants_step() const noexcept override { return !previous_.empty(); }
  void rollback() noexcept override { next_ = previous_; }
  void commit() noexcept override { previous_ = std::move(next_); }
  void reset() override {
    previous_.clear();
    next_.clear();
  }
  std::size_t state_rows() const noexcept override { return previous_.size(); }
  void save(StateWriter& writer) const override { writer.batch(previous_); }
  bool load(StateReader& reader) override {
    previous_ = reader.batch();
    return reader.ok();
  }

 private:
  Batch previous_;
  Batch next_;
};

}  // namespace

OperatorPtr make_differentiate() {
  return std::make_unique<Differentiate>();
}

}  // namespace dmm::engine
