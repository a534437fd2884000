/// The operators, one file each. Δ is a change of a collection, a⁻ the collection before it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/expression/path.h"
#include "engine/fields.h"
#include "engine/operators/operator.h"

namespace dmm::engine {

/// in: what the caller put into the step.
OperatorPtr make_input(std::string name);

/// out = Σ inputs, consolidated.
OperatorPtr make_output(std::string name);

/// σ(a) = { x ↦ a[x] : predicate(x) is true }. Linear: σ(Δ). O(Δ), no state.
/// A missing field makes the predicate false; another failure goes to the error output.
OperatorPtr make_select(ExpressionPtr predicate, nlohmann::json source);

/// π(a) = Σ_x a[x]·{f(x)}. Linear: π(Δ). O(Δ), no state.
/// A null result drops the document; a result that is no object, or a failure, goes to the error
/// output. With `is_volatile` (`@now`, `@rnd`) the result of each document is remembered until its
/// weight is 0, so that a deletion takes back what the insertion gave; then O(state) memory.
OperatorPtr make_project(ExpressionPtr projection, nlohmann::json source, bool is_volatile);

/// pick(a) = Σ_x a[x]·{x restricted to fields}. Linear. O(Δ), no state. Made by the optimiser only.
OperatorPtr make_pick(Fields fields);

/// unwind(a) = Σ_x a[x]·Σ_i {x with field := x.field[i]}. Linear. O(Δ·list), no state.
/// Missing or null: no rows; anything but a list goes to the error output.
OperatorPtr make_unwind(Path path);

/// One side of a join.
struct JoinSide {
  std::vector<std::string> names;  ///< one: documents of that name; several: compounds of them
  /// The expressions whose values must be equal to those of the other side, position by position.
  /// Evaluated on the compound {name: document}, or on the document itself where `on_document`.
  std::vector<ExpressionPtr> keys;
  std::vector<bool> on_document;
  /// Circuits by hand: keys are evaluated on this member of the document.
  std::string inside = {};
};

struct JoinSpec {
  JoinSide left;
  JoinSide right;
  ExpressionPtr residual;  ///< what else must be true of the pair; null: nothing
  nlohmann::json source;   ///< for explain
  /// Soft join: nobody reads pairs whose right row is not null, so they need not be made.
  bool only_unmatched = false;
  /// Circuits by hand: the pair is the left document with the members of the right one put over it,
  /// and not a compound by name.
  bool merge = false;
};

/// a ⋈ b = { {left…, right…} ↦ a[l]·b[r] : keys(l) = keys(r) and residual }.
/// Δ(a ⋈ b) = Δa ⋈ b⁻ + a ⋈ Δb. O(Δ · matches), state |a| + |b| in one hash index by key.
/// Null keys match each other; a row whose key is missing matches nothing. Without keys every pair
/// is tried.
OperatorPtr make_join(JoinSpec spec);

/// a ⟕ b = a ⋈ b + { {l, right: null} ↦ a[l] : no r with b[r] > 0 matches l }. Linear in a, and
/// correct for bags. Costs as for the join, and the left rows of a key when its first match comes
/// or its last one goes.
OperatorPtr make_soft_join(JoinSpec spec);

/// distinct(a) = { x ↦ 1 : a[x] > 0 }. Δ: +1 where a weight rises above 0, -1 where it falls to 0
/// or below. O(Δ), state |a|.
OperatorPtr make_distinct();

/// A fold over the values of a group.
struct AggregateSpec {
  enum class Fold : std::uint8_t { count, sum, mean, min, max, lexmin, lexmax, topk, bottomk };
  Fold fold = Fold::count;
  std::size_t source = 0;  ///< index into GroupSpec::elements
  std::int64_t k = 0;
};

struct GroupSpec {
  ExpressionPtr key;
  ExpressionPtr value;  ///< null: the whole document
  bool distinct = false;
  bool values = true;     ///< the row needs the list of values
  bool documents = true;  ///< the row needs the list of documents
  /// What is folded: element 0 is null and stands for the value itself, the others are evaluated
  /// with the value as subject.
  std::vector<ExpressionPtr> elements{nullptr};
  std::vector<AggregateSpec> aggregates;
  /// Conditions on {key, values, documents, "@0", "@1" …}; a group for which one is not true has no
  /// row.
  std::vector<ExpressionPtr> filters;
  ExpressionPtr projection;  ///< over {key, values, documents, "@0", "@1" …}; null: the row itself
  nlohmann::json source;     ///< for explain
};

/// group(a) = { row(k) ↦ 1 : Σ over documents of key k of max(weight, 0) > 0 }, where row(k) is
/// made of the key, the values in canonical order, and the folds.
///
/// Δ: -old row and +new row of each group touched, if they differ. O(Δ · log group) and the size of
/// the rows; folds never scan a group. State: the values (and documents where listed) with weights.
OperatorPtr make_group(GroupSpec spec);

/// Σ cᵢ·inputᵢ, consolidated. Linear. O(Δ), no state. Union is [1,1], difference [1,-1], negation
/// [-1].
OperatorPtr make_linear(std::vector<std::int64_t> coefficients, std::string type);

/// z⁻¹: what came in the step before; nothing at first. State: one batch.
OperatorPtr make_delay();
/// ∫: the sum of all inputs so far. State |∫|, and as much work in every step.
OperatorPtr make_integrate();
/// in - what came in the step before. State: one batch.
OperatorPtr make_differentiate();
/// Passes the input of the first step, nothing later.
OperatorPtr make_delta0();

/// True for the delay, whose input belongs to the next step: the circuit treats it as a source.
bool is_delay(const Operator& op) noexcept;
/// Hands the input of this step to a delay, after everything has run.
void absorb(Operator& delay, const Batch& in);

}  // namespace dmm::engine
