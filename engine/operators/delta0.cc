#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Delta0 final : public Operator {
 public:
  std::string_view type() const noexcept override { return "delta0"; }
  Linearity linearity() const noexcept override { return Linearity::boundary; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Delta0>()); }
  bool step(StepContext&, std::span<const Batch* const> in, Batch& out) override {
    if (!fired_) out = *in[0];
    return true;
  }
  // The first step counts as such even when nothing came in it.
  bool wants_step() const noexcept override { return !fired_; }
  void commit() noexcept override { fired_ = true; }
  void reset() override { fired_ = false; }
  void save(StateWriter& writer) const override { writer.number(fired_ ? 1 : 0); }
  bool load(StateReader& reader) override {
    fired_ = reader.number() != 0;
    return reader.ok();
  }

 private:
  bool fired_ = false;
};

}  // namespace

OperatorPtr make_delta0() {
  return std::make_unique<Delta0>();
}

}  // namespace dmm::engine
