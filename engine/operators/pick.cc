#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Pick final : public Operator {
 public:
  explicit Pick(Fields fields) : fields_(std::move(fields)) {}
  std::string_view type() const noexcept override { return "pick"; }
  nlohmann::json describe() const override { return {{"fields", fields_.text()}}; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Pick>(fields_)); }
  bool step(StepContext&, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) out.push_back(Row{fields_.pick(row.value), row.weight});
    return true;
  }

 private:
  Fields fields_;
};

}  // namespace

OperatorPtr make_pick(Fields fields) {
  return std::make_unique<Pick>(std::move(fields));
}

}  // namespace dmm::engine
