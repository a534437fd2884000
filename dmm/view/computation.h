#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dmm/error.h"
#include "dmm/internal/streams.h"
#include "dmm/view.h"
#include "dmm/view/inputs.h"
#include "dmm/view/rows.h"
#include "engine/program.h"

namespace dmm::view {

/// Compiles the pipeline of a view. Throws Error{invalid} DMM-0502.
engine::Program compile(const View& view);

/// A document or a row that is left out and why, or, without an error, that no longer is.
struct LeftOut {
  std::string place;  ///< "<input>.<key>", "<node>.<hash>", "rows"
  std::optional<Error> error;
};

/// What one advance() did.
struct Advance {
  InputEvents events;  ///< a restart among them: nothing was computed, all is void
  bool stepped = false;
  std::chrono::nanoseconds took{0};  ///< the step
  std::vector<std::string> touched;  ///< ids whose row may have changed; their slots are `queued`
  std::vector<LeftOut> left_out;
  std::string failure;  ///< of a step: nothing of it happened, so all is void
};

/// A view being computed: its inputs go through its pipeline, its rows come out. Its owner has one,
/// and so has whoever compares or explains. One thread.
class Computation {
 public:
  /// streams   outlives this, as the clock does.
  /// clock     of the server, see Inputs.
  /// wake      called from any thread when there is something to advance with.
  /// Throws Error{invalid} DMM-0502.
  Computation(const internal::Streams& streams, const View& view, ServerClock& clock,
              std::function<void()> wake, Inputs::Keep keep = Inputs::Keep::documents);
  Computation(const Computation&) = delete;
  Computation& operator=(const Computation&) = delete;

  /// Begins to read the inputs; see Inputs::open().
  void open(const nlohmann::json& baselines) { inputs_.open(baselines); }
  void open(const nlohmann::json& baselines, const std::vector<SourceMark>& marks) {
    inputs_.open(baselines, marks);
  }
  /// Computes the view from the documents of a snapshot; see Inputs::restore(). Returns why they
  /// cannot be used, and then nothing here is of use; empty if they can. Throws Error{retry},
  /// DMM-0504.
  std::string restore(SnapshotReader& reader, std::vector<LeftOut>& left_out);

  /// Takes what the inputs told, at most limits::view_step_changes of each, as one step.
  Advance advance();

  /// One step with changes of the caller's making, beside the inputs. Throws Error DMM-0504.
  const engine::StepResult& step(engine::StepInput& input);

  const Inputs& inputs() const noexcept { return inputs_; }
  Rows& rows() noexcept { return rows_; }
  const Rows& rows() const noexcept { return rows_; }
  engine::Circuit& circuit() noexcept { return program_.circuit(); }
  std::uint64_t steps() const noexcept { return steps_; }

  static constexpr const char* kOutput = "output";

 private:
  void note_errors(std::vector<LeftOut>& left_out) const;

  engine::Program program_;  // the circuit outlives whatever holds values that it made
  engine::StepInput input_;  // kept, like the result, for the memory of their batches
  engine::StepResult result_;
  Rows rows_;
  std::uint64_t steps_ = 0;
  Inputs inputs_;  // last: its sources end first
};

}  // namespace dmm::view
