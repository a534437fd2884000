#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Output final : public Operator {
 public:
  explicit Output(std::string name) : name_(std::move(name)) {}
  std::string_view type() const noexcept override { return "output"; }
  Linearity linearity() const noexcept override { return Linearity::boundary; }
  nlohmann::json describe() const override { return {{"name", name_}}; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Output>(name_)); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Batch* batch : in) out.insert(out.end(), batch->begin(), batch->end());
    return consolidate(out) || context.overflow();
  }

 private:
  std::string name_;
};

}  // namespace

OperatorPtr make_output(std::string name) {
  return std::make_unique<Output>(std::move(name));
}

}  // namespace dmm::engine
