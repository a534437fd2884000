#include "engine/operators/operators.h"

namespace dmm::engine {
namespace {

bool project(const Expression& projection, StepContext& context, const Row& row, Batch& out) {
  context.scope.reset(row.value);
  Value result;
  if (!projection.eval(context.scope, result)) {
    context.report(row.value, context.scope.failure().message, row.weight);
    return false;
  }
  if (result.kind() == Kind::object) {
    out.push_back(Row{std::move(result), row.weight});
    return true;
  }
  if (!result->is_null())
    context.report(
        row.value,
        "a projection must give an object, not a " + std::string(kind_name(result.kind())),
        row.weight);
  return false;
}

class Project final : public Operator {
 public:
  Project(ExpressionPtr projection, nlohmann::json source)
      : projection_(std::move(projection)), source_(std::move(source)) {}
  std::string_view type() const noexcept override { return "project"; }
  nlohmann::json describe() const override { return {{"projection", source_}}; }
  OperatorPtr clone() const override {
    return copy_of(std::make_unique<Project>(projection_, source_));
  }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) project(*projection_, context, row, out);
    return true;
  }

 private:
  ExpressionPtr projection_;
  nlohmann::json source_;
};

// Remembers, for each document held, what the projection (or its failure) was when it came.
class VolatileProject final : public Operator {
 public:
  VolatileProject(ExpressionPtr projection, nlohmann::json source)
      : projection_(std::move(projection)), source_(std::move(source)) {}
  std::string_view type() const noexcept override { return "project"; }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  nlohmann::json describe() const override { return {{"projection", source_}, {"volatile", true}}; }
  OperatorPtr clone() const override {
    return copy_of(std::make_unique<VolatileProject>(projection_, source_));
  }

  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    for (const Row& row : *in[0]) {
      if (held_.weight(row.value) == 0 && !remember(context, row.value)) return context.overflow();
      const std::uint32_t at = find(row.value);
      if (results_[at].failed)
        context.report(row.value, results_[at].result->as_string(), row.weight);
      else if (!results_[at].result->is_null())
        out.push_back(Row{results_[at].result, row.weight});
      if (!held_.add(row.value, row.weight)) return context.overflow();
      undo_.push_back(row);
    }
    return true;
  }
  void rollback() noexcept override {
    for (const Row& row : undo_)
      if (Weight back; negate_weight(row.weight, back))
        static_cast<void>(held_.add(row.value, back));
    forget();
  }
  void commit() noexcept override { forget(); }
  void reset() override {
    held_.clear();
    results_.clear();
    undo_.clear();
  }
  std::size_t state_rows() const noexcept override { return held_.size(); }
  void save(StateWriter& writer) const override {
    writer.zset(held_);
    writer.number(results_.size());
    for (std::uint32_t i = 0; i < results_.size(); ++i) {
      writer.value(results_[i].document);
      writer.value(results_[i].result);
      writer.number(results_[i].failed ? 1 : 0);
    }
  }
  bool load(StateReader& reader) override {
    reset();
    if (!reader.zset(held_)) return false;
    for (std::uint64_t i = 0, n = reader.number(); reader.ok() && i < n; ++i) {
      Memory memory{reader.value(), reader.value(), reader.number() != 0};
      if (find(memory.document) != DenseMap<Memory>::kNone) return false;
      if (memory.failed && memory.result.kind() != Kind::string) return false;
      results_.insert(std::move(memory));
    }
    for (std::size_t i = 0; i < held_.size(); ++i)
      if (find(held_.row(i).value) == DenseMap<Memory>::kNone) return false;
    return reader.ok();
  }

 private:
  struct Memory {
    Value document;
    Value result;
    bool failed = false;
    std::uint32_t hash() const noexcept { return engine::hash(document); }
  };
  std::uint32_t find(const Value& document) const {
    return results_.find(hash(document),
                         [&](const Memory& memory) { return memory.document == document; });
  }
  bool remember(StepContext& context, const Value& document) {
    if (find(document) != DenseMap<Memory>::kNone) return true;
    Memory memory{document, {}, false};
    context.scope.reset(document);
    if (!projection_->eval(context.scope, memory.result)) {
      memory.failed = true;
      memory.result = Value::string(context.scope.failure().message);
    } else if (memory.result.kind() != Kind::object && !memory.result->is_null()) {
      memory.failed = true;
      memory.result = Value::string("a projection must give an object");
    }
    results_.insert(std::move(memory));
    return true;
  }
  void forget() noexcept {
    for (const Row& row : undo_)
      if (held_.weight(row.value) == 0)
        if (const std::uint32_t at = find(row.value); at != DenseMap<Memory>::kNone)
          results_.erase(at);
    undo_.clear();
  }

  ExpressionPtr projection_;
  nlohmann::json source_;
  Zset held_;
  DenseMap<Memory> results_;
  Batch undo_;
};

}  // namespace

OperatorPtr make_project(ExpressionPtr projection, nlohmann::json source, bool is_volatile) {
  if (is_volatile)
    return std::make_unique<VolatileProject>(std::move(projection), std::move(source));
  return std::make_unique<Project>(std::move(projection), std::move(source));
}

}  // namespace dmm::engine
