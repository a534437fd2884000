#include "engine/operators/operators.h"
#include "engine/packed/packed_table_internal.h"

namespace dmm::engine {
namespace {

class Distinct final : public Operator {
 public:
  std::string_view type() const noexcept override { return "distinct"; }
  Linearity linearity() const noexcept override { return Linearity::stateful; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Distinct>()); }
  bool step(StepContext& context, std::span<const Batch* const> in, Batch& out) override {
    const Batch& rows = *in[0];
    rows_ = &rows;
    for (; applied_ < rows.size(); ++applied_) {
      held_.prefetch_ahead(applied_, rows.size(),
                           [&rows](std::size_t i) { return rows[i].hash(); });
      const Row& row = rows[applied_];
      Weight before;
      if (!held_.add(row.value, row.weight, before)) return context.overflow();
      const Weight after = before + row.weight;
      if (before <= 0 && after > 0) out.push_back(Row{row.value, 1});
      if (before > 0 && after <= 0) out.push_back(Row{row.value, -1});
    }
    return true;
  }
  void rollback() noexcept override {
    // In reverse, so that each addition undoes one that has just been possible.
    for (; applied_ > 0; --applied_) {
      const Row& row = (*rows_)[applied_ - 1];
      if (Weight before, back; negate_weight(row.weight, back))
        static_cast<void>(held_.add(row.value, back, before));
    }
  }
  void commit() noexcept override { applied_ = 0; }
  void reset() override {
    held_.clear();
    applied_ = 0;
  }
  std::size_t state_rows() const noexcept override { return held_.size(); }
  std::size_t state_bytes() const noexcept override { return held_.bytes(); }
  void save(StateWriter& writer) const override {
    Batch rows;
    held_.each([&rows](const internal::PackedRow& row, const std::uint8_t*) {
      rows.push_back(Row{row.value(), row.weight()});
    });
    sort_canonical(rows);
    writer.batch(rows);
  }
  bool load(StateReader& reader) override {
    reset();
    Weight before;
    for (const Row& row : reader.batch())
      if (row.weight == 0 || !held_.add(row.value, row.weight, before) || before != 0) return false;
    return reader.ok();
  }

 private:
  internal::PackedTable held_;
  const Batch* rows_ = nullptr;  // of this step
  std::size_t applied_ = 0;      // how many of them are in
};

}  // namespace

OperatorPtr make_distinct() {
  return std::make_unique<Distinct>();
}

}  // namespace dmm::engine
