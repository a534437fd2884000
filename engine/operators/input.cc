#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

// The circuit shows the caller's batch to the readers directly; there is nothing to run.
class Input final : public Operator {
 public:
  explicit Input(std::string name) : name_(std::move(name)) {}
  std::string_view type() const noexcept override { return "input"; }
  std::size_t arity() const noexcept override { return 0; }
  Linearity linearity() const noexcept override { return Linearity::boundary; }
  nlohmann::json describe() const override { return {{"name", name_}}; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Input>(name_)); }
  bool step(StepContext&, std::span<const Batch* const>, Batch&) override { return true; }

 private:
  std::string name_;
};

}  // namespace

OperatorPtr make_input(std::string name) {
  return std::make_unique<Input>(std::move(name));
}

}  // namespace dmm::engine
