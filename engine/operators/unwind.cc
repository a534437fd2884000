#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

class Unwind final : public Operator {
 public:
  explicit Unwind(Path path) : path_(std::move(path)) {}
  std::string_view type() const noexcept override { return "unwind"; }
  nlohmann::json describe() const override { return {{"field", path_.text()}}; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Unwind>(path_)); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    std::string error;
    for (const Row& row : *in[0]) {
      Value list;
      if (!path_.get(row.value, list) || list->is_null()) continue;
      if (list.kind() != Kind::list) {
        context.report(row.value,
                       "@unwind: " + path_.text() + " is a " + std::string(kind_name(list.kind())) +
                           ", not a list",
                       row.weight);
        continue;
      }
      for (std::size_t i = 0, n = list->size(); i < n; ++i) {
        Value document;
        if (path_.set(row.value, Value(list->at(i)), document, error)) {
          out.push_back(Row{std::move(document), row.weight});
          continue;
        }
        context.report(row.value, error, row.weight);
        break;
      }
    }
    return true;
  }

 private:
  Path path_;
};

}  // namespace

OperatorPtr make_unwind(Path path) {
  return std::make_unique<Unwind>(std::move(path));
}

}  // namespace dmm::engine
