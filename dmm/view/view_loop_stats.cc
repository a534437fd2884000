// What a view says of its steps: how long they took, how late they were, to what trace they belong.

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/view/view_loop.h"

namespace dmm::view {

using std::chrono::system_clock;

void ViewLoop::note_step(const Advance& advance) {
  ++stats_.steps;
  stats_.step_times.add(advance.took);
  step_trace_.clear();
  if (!telling_) return;  // what is loaded is as old as it is
  if (advance.events.oldest) stats_.lags.add(internal::SystemClock::now() - *advance.events.oldest);
  const std::vector<std::string>& traces = advance.events.traces;
  if (traces.empty()) return;
  step_trace_ = traces.back();
  std::vector<TraceContext> parents;
  for (const std::string& trace : traces) {
    const auto context = TraceContext::parse(trace);
    if (context && context->sampled) parents.push_back(*context);
  }
  if (!streams_.spans || parents.empty()) return;
  // Changes of several traces that came in one step cannot be told apart behind it: they lead to a
  // trace of its own, which names them.
  Span span;
  if (traces.size() == 1) {
    span.parent = parents.front();
    span.context = span.parent->child();
  } else {
    span.context = TraceContext::begin(true);
    span.links = std::move(parents);
  }
  span.name = "step " + name();
  span.begun = internal::SystemClock::now() -
               std::chrono::duration_cast<system_clock::duration>(advance.took);
  span.took = advance.took;
  span.attributes = {{"dmm.view", name()},
                     {"dmm.rows_touched", std::to_string(advance.touched.size())}};
  step_trace_ = span.context.text();
  streams_.spans->record(std::move(span));
}

/// What led to the row's present state goes with it when it is told.
void ViewLoop::keep_trace(const std::string& id, const Rows::Slot& slot) {
  if (slot.row == slot.told) {
    traces_.erase(id);
  } else if (!step_trace_.empty()) {
    traces_[id] = step_trace_;
  }
}

void ViewLoop::count_operators() {
  if (!computation_ || Clock::now() < operators_due_) return;
  operators_due_ = Clock::now() + limits::view_state_interval;
  stats_.operators.clear();
  for (const engine::Circuit::Node& node : computation_->circuit().nodes()) {
    const std::size_t rows = node.op->state_rows();
    if (rows > 0) stats_.operators.push_back({node.id, rows, node.op->state_bytes()});
  }
  stats_.documents_bytes = computation_->inputs().memory() + computation_->rows().memory();
}

}  // namespace dmm::view
