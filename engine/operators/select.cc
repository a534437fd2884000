#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Select final : public Operator {
 public:
  Select(ExpressionPtr predicate, nlohmann::json source)
      : predicate_(std::move(predicate)), source_(std::move(source)) {}
  std::string_view type() const noexcept override { return "select"; }
  nlohmann::json describe() const override { return {{"predicate", source_}}; }
  OperatorPtr clone() const override {
    return copy_of(std::make_unique<Select>(predicate_, source_));
  }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) {
      bool failed;
      context.scope.reset(row.value);
      if (eval_predicate(*predicate_, context.scope, failed))
        out.push_back(row);
      else if (failed)
        context.report(row.value, context.scope.failure().message, row.weight);
    }
    return true;
  }

 private:
  ExpressionPtr predicate_;
  nlohmann::json source_;
};

}  // namespace

OperatorPtr make_select(ExpressionPtr predicate, nlohmann::json source) {
  return std::make_unique<Select>(std::move(predicate), std::move(source));
}

}  // namespace dmm::engine
