#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Delay final : public Operator {
 public:
  std::string_view type() const noexcept override { return "delay"; }
  Linearity linearity() const noexcept override { return Linearity::boundary; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Delay>()); }
  // Emits what the step before left; the circuit brings the input of this step when all has run.
  bool step(StepContext&, std::span<const Batch* const>, Batch& out) override {
    out = held_;
    return true;
  }
  bool wants_step() const noexcept override { return !held_.empty(); }
  void absorb(const Batch& in) { held_ = in; }
  void reset() override { held_.clear(); }
  std::size_t state_rows() const noexcept override { return held_.size(); }
  void save(StateWriter& writer) const override { writer.batch(held_); }
  bool load(StateReader& reader) override {
    held_ = reader.batch();
    return reader.ok();
  }

 private:
  Batch held_;
};

}  // namespace

OperatorPtr make_delay() {
  return std::make_unique<Delay>();
}
bool is_delay(const Operator& op) noexcept {
  return op.type() == "delay";
}
void absorb(Operator& delay, const Batch& in) {
  static_cast<Delay&>(delay).absorb(in);
}

}  // namespace dmm::engine
