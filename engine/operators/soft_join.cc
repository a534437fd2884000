#include "engine/operators/join_internal.h"

namespace dmm::engine {
namespace {

// How many right rows match a left row is known without a search: all positive rows of the key when
// there is no residual, else a count kept beside each left row.
class SoftJoin final : public internal::JoinBase {
 public:
  explicit SoftJoin(JoinSpec spec)
      : JoinBase(std::move(spec), spec.residual ? sizeof(Cell) : kSoftBytes) {}
  std::string_view type() const noexcept override { return "soft_join"; }
  OperatorPtr clone() const override { return copy_of(std::make_unique<SoftJoin>(spec())); }

 private:
  using PackedRow = internal::PackedRow;

  void keyless(const Row& row, Batch& out) const override {
    out.push_back(Row{compound(row.value, {}), row.weight});
  }

  bool fold(Cell& cell, ValueRef row, Weight weight, bool left, Emit* emit) override {
    return left ? fold_left(cell, row, weight, emit) : fold_right(cell, row, weight, emit);
  }

  bool pair_matches(ValueRef left, ValueRef right, Emit* emit) const {
    if (!spec().residual) return true;
    static const StepTime kNoTime;
    StepContext quiet(emit != nullptr ? emit->context.scope.time() : kNoTime);
    return matches(quiet, compound(left, right), 0);
  }

  // True when pairs with this right row are not read by anybody, and nothing is asked of them.
  bool silent(ValueRef right) const {
    return spec().only_unmatched && !spec().residual && right.kind != Kind::null;
  }

  // Emits the pairs of a left row. `count` receives how many rows match it.
  bool emit_left(const Cell& cell, ValueRef row, Weight weight, Emit* emit, std::int64_t& count) {
    count = spec().residual ? 0 : cell.positives;
    if (emit == nullptr && !spec().residual) return true;
    bool ok = true;
    const auto pair = [&](ValueRef other, Weight other_weight) {
      if (spec().residual && other_weight > 0 && pair_matches(row, other, emit)) ++count;
      ok = emit == nullptr || emit_pair(*emit, row, other, weight, other_weight);
      return ok;
    };
    if (spec().only_unmatched && !spec().residual) {
      right_rows_.look({});
      const Weight nulls = cell.right.weight(right_rows_);
      return nulls == 0 || pair({}, nulls);
    }
    cell.right.ascend(right_rows_, [&](const PackedRow& other) {
      const Value value = other.value();
      return pair(value, other.weight());
    });
    return ok;
  }

  bool fold_left(Cell& cell, ValueRef row, Weight weight, Emit* emit) {
    std::int64_t count;
    if (!emit_left(cell, row, weight, emit, count)) return false;
    if (emit != nullptr && count == 0) emit->out.push_back(Row{compound(row, {}), weight});
    Weight held;
    left_rows_.look(row);
    if (!cell.left.add(left_rows_, weight, held))
      return emit == nullptr || emit->context.overflow();
    if (!spec().residual) return true;
    const bool was = held != 0;
    const bool is = held + weight != 0;
    if (was == is) return true;
    match_rows_.look(row);
    Weight ignored;
    return cell.matches.add(match_rows_, is ? count : -cell.matches.weight(match_rows_), ignored);
  }

  bool fold_right(Cell& cell, ValueRef row, Weight weight, Emit* emit) {
    Weight before;
    right_rows_.look(row);
    if (!cell.right.add(right_rows_, weight, before))
      return emit == nullptr || emit->context.overflow();
    const Weight after = before + weight;
    const int change = (after > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
    const std::int64_t positives = cell.positives;
    cell.positives += change;
    if (change == 0 && silent(row)) return true;
    if (emit == nullptr && !(spec().residual && change != 0)) return true;
    std::size_t done = 0;  // left rows whose matches count this row
    bool ok = true;
    cell.left.ascend(left_rows_, [&](const PackedRow& other) {
      const Value value = other.value();
      ok = emit == nullptr || emit_pair(*emit, value, row, other.weight(), weight);
      if (!ok) return false;
      if (change == 0) return true;
      std::int64_t count = positives;
      ++done;
      if (spec().residual) {
        if (!pair_matches(value, row, emit)) return true;
        count = count_match(cell, value, change);
      }
      if (emit != nullptr) ok = pad(value, other.weight(), change, count, *emit);
      return ok;
    });
    if (!ok) undo_right(cell, row, weight, change, done);
    return ok;
  }

  // Changes the number of matches of a left row. returns what it was; it stays below the rows held.
  std::int64_t count_match(Cell& cell, ValueRef left, int change) {
    Weight before;
    match_rows_.look(left);
    static_cast<void>(cell.matches.add(match_rows_, change, before));
    return before;
  }

  // The left row on its own goes with its first match and comes back with its last one.
  bool pad(ValueRef left, Weight weight, int change, std::int64_t count, Emit& emit) const {
    Weight padded = 0;
    if (change > 0 && count == 0 && !negate_weight(weight, padded)) return emit.context.overflow();
    if (change < 0 && count == 1) padded = weight;
    if (padded != 0) emit.out.push_back(Row{compound(left, {}), padded});
    return true;
  }

  // Takes back what fold_right did to the first `count` left rows: the caller will not know of the
  // row.
  void undo_right(Cell& cell, ValueRef row, Weight weight, int change, std::size_t count) {
    if (spec().residual)
      cell.left.ascend(left_rows_, [&](const PackedRow& other) {
        if (count == 0) return false;
        --count;
        const Value value = other.value();
        if (pair_matches(value, row, nullptr)) count_match(cell, value, -change);
        return true;
      });
    cell.positives -= change;
    right_rows_.look(row);
    Weight ignored;
    if (Weight back; negate_weight(weight, back))
      static_cast<void>(cell.right.add(right_rows_, back, ignored));
  }
};

}  // namespace

OperatorPtr make_soft_join(JoinSpec spec) {
  return std::make_unique<SoftJoin>(std::move(spec));
}

}  // namespace dmm::engine
