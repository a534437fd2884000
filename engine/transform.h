/// Transforms: circuits made from circuits.
///
/// Each takes a circuit that has not run and gives a new one; the old one stays as it is. A chain
/// is one atomic change, applied in the right order whatever order it was given in: Distincter,
/// then Reconciler and SmithPredictor, then Incrementalizer. Distinct comes before the comparison,
/// because behind it its state would count commands and swallow repairs (docs/decisions/0102).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/circuit.h"

namespace dmm::engine {

struct Transform {
  enum class Type : std::uint8_t { distincter, reconciler, smith_predictor, incrementalizer };
  Type type = Type::incrementalizer;
  /// Loops to close: (input observed, output commanded), by name or node id. Empty: every input
  /// that has an output of the same name.
  std::vector<std::pair<std::string, std::string>> pairs = {};
  /// SmithPredictor: the assumed delay of the feedback in steps, 2 or more.
  int k = 0;
  /// Paths that the view owns. Only they are compared, as sets; empty: whole documents, with the
  /// multiplicities that they have.
  std::vector<std::string> owned = {};
};

/// C ↦ C^Δ: takes and gives changes, and I ∘ Q^Δ = Q ∘ I. Integrate and differentiate, which stand
/// between changes and collections, become plain wires.
/// Distincter: every output a set.
/// Reconciler: U = ∫(D - Y); each step commands the whole difference between desired and observed.
/// SmithPredictor: the same with commands in flight for k steps counted as observed:
/// U = ∫(δD - distinct^Δ(δY + z⁻¹U - z⁻ᵏU)).
///
/// throws Error when the circuit or the pairs do not allow it.
Circuit apply(const Circuit& circuit, const Transform& transform);

/// Applies all, in canonical order. throws Error for an empty list or a transform given twice.
Circuit apply_chain(const Circuit& circuit, std::vector<Transform> transforms);

/// Reads {"name", "pairs", "k", "owned"}. throws Error.
Transform transform_from_json(const nlohmann::json& source);

}  // namespace dmm::engine
