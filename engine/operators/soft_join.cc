#include "engine/operators/join_internal.h"

namespace dmm::engine {
namespace {

// How many right rows match a left row is known without a search: all positive rows of the key when
// there is no residual, else a count kept beside each left row.
class SoftJoin final : public internal::JoinBase {
 public:
  using JoinBase::JoinBase;
  std::string_view type() const noexcept override { return "soft_join"; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<SoftJoin>(spec())); }

 private:
  void keyless(const Row& row, Batch& out) const override {
    out.push_back(Row{compound(row.value, {}), row.weight});
  }

  bool fold(Entry& entry, const Row& row, bool left, Emit* emit) override {
    return left ? fold_left(entry, row, emit) : fold_right(entry, row, emit);
  }

  bool pair_matches(const Value& left, const Value& right, Emit* emit) {
    if (!spec().residual) return true;
    static const StepTime kNoTime;
    StepContext quiet(emit != nullptr ? emit->context.scope.time() : kNoTime);
    return matches(quiet, compound(left, right), 0);
  }

  bool fold_left(Entry& entry, const Row& row, Emit* emit) {
    std::int64_t count = spec().residual ? 0 : entry.positives;
    Weight held = entry.left.weight(row.value);
    for (std::size_t i = 0; i < entry.right.size(); ++i) {
      const Row& other = entry.right.row(i);
      if (spec().residual && other.weight > 0 && pair_matches(row.value, other.value, emit))
        ++count;
      if (emit != nullptr && !emit_pair(*emit, row.value, other.value, row.weight, other.weight))
        return false;
    }
    if (emit != nullptr && count == 0)
      emit->out.push_back(Row{compound(row.value, {}), row.weight});
    if (!entry.left.add(row.value, row.weight)) return emit == nullptr || emit->context.overflow();
    if (!spec().residual) return true;
    const bool was = held != 0;
    const bool is = entry.left.weight(row.value) != 0;
    if (was == is) return true;
    return entry.matches.add(row.value, is ? count : -entry.matches.weight(row.value));
  }

  bool fold_right(Entry& entry, const Row& row, Emit* emit) {
    Weight before;
    if (!entry.right.add(row.value, row.weight, &before))
      return emit == nullptr || emit->context.overflow();
    const Weight after = before + row.weight;
    const int change = (after > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
    const std::int64_t positives = entry.positives;
    entry.positives += change;
    if (emit == nullptr && !(spec().residual && change != 0)) return true;
    for (std::size_t i = 0; i < entry.left.size(); ++i) {
      const Row& other = entry.left.row(i);
      if (emit != nullptr && !emit_pair(*emit, other.value, row.value, other.weight, row.weight)) {
        undo_right(entry, row, change, i);
        return false;
      }
      if (change == 0) continue;
      std::int64_t count = positives;
      if (spec().residual) {
        if (!pair_matches(other.value, row.value, emit)) continue;
        count = entry.matches.weight(other.value);
        static_cast<void>(
            entry.matches.add(other.value, change));  // counts stay below the rows held
      }
      if (emit == nullptr) continue;
      Weight pad = 0;
      if (change > 0 && count == 0 && !negate_weight(other.weight, pad)) {
        undo_right(entry, row, change, i + 1);
        return emit->context.overflow();
      }
      if (change < 0 && count == 1) pad = other.weight;
      if (pad != 0) emit->out.push_back(Row{compound(other.value, {}), pad});
    }
    return true;
  }

  // Takes back what fold_right did up to left row `end`: the caller will not know of this row.
  void undo_right(Entry& entry, const Row& row, int change, std::size_t end) {
    if (spec().residual && change != 0)
      for (std::size_t i = 0; i < end; ++i)
        if (pair_matches(entry.left.row(i).value, row.value, nullptr))
          static_cast<void>(entry.matches.add(entry.left.row(i).value, -change));
    entry.positives -= change;
    if (Weight back; negate_weight(row.weight, back))
      static_cast<void>(entry.right.add(row.value, back));
  }
};

}  // namespace

OperatorPtr make_soft_join(JoinSpec spec) {
  return std::make_unique<SoftJoin>(std::move(spec));
}

}  // namespace dmm::engine
