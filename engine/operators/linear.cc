#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class LinearCombination final : public Operator {
 public:
  LinearCombination(std::vector<std::int64_t> coefficients, std::string type)
      : coefficients_(std::move(coefficients)), type_(std::move(type)) {}
  std::string_view type() const noexcept override { return type_; }
  std::size_t arity() const noexcept override { return coefficients_.size(); }
  nlohmann::json describe() const override { return {{"coeffs", coefficients_}}; }
  OperatorPtr clone() const override {
    return copy_of(std::make_unique<LinearCombination>(coefficients_, type_));
  }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (std::size_t port = 0; port < in.size() && port < coefficients_.size(); ++port)
      for (const Row& row : *in[port]) {
        Weight weight;
        if (!multiply_weights(row.weight, coefficients_[port], weight)) return context.overflow();
        out.push_back(Row{row.value, weight});
      }
    return consolidate(out) || context.overflow();
  }

 private:
  std::vector<std::int64_t> coefficients_;
  std::string type_;
};

}  // namespace

OperatorPtr make_linear(std::vector<std::int64_t> coefficients, std::string type) {
  return std::make_unique<LinearCombination>(std::move(coefficients), std::move(type));
}

}  // namespace dmm::engine
