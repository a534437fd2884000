#include "dmm/view/computation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "engine/error.h"

namespace dmm::view {

engine::Program compile(const View& view) {
  engine::ProgramOptions options;
  options.name = view.name;
  options.inputs.clear();
  for (const ViewInput& input : view.inputs) options.inputs.push_back({input.called(), ""});
  options.outputs = {{Computation::kOutput, ""}};
  try {
    return engine::Program::compile(view.pipeline, options);
  } catch (const engine::Error& error) {
    throw Error(code::bad_pipeline, fmt::format("view {}: {}", view.name, error.what()));
  }
}

Computation::Computation(const internal::Streams& streams, const View& view, ServerClock& clock,
                         std::function<void()> wake, Inputs::Keep keep)
    : program_(compile(view)),
      rows_(view.key),
      inputs_(streams, view, program_, clock, std::move(wake), keep) {}

Advance Computation::advance() {
  Advance advance;
  for (auto& [name, batch] : input_.batches) batch.clear();
  advance.events = inputs_.take(limits::view_step_changes, input_, [&](const Unreadable& document) {
    advance.left_out.push_back({document.input + "." + document.key, document.error});
  });
  if (advance.events.restart) return advance;
  if (std::ranges::all_of(input_.batches, [](const auto& one) { return one.second.empty(); })) {
    return advance;
  }
  const auto begun = internal::SteadyClock::now();
  try {
    step(input_);
  } catch (const Error& error) {
    advance.failure = error.message();
    return advance;
  }
  advance.stepped = true;
  advance.took = internal::SteadyClock::now() - begun;
  note_errors(advance.left_out);
  advance.touched = rows_.apply(result_.outputs[kOutput]);
  LeftOut without_key{"rows", std::nullopt};
  if (rows_.without_key() > 0) {
    without_key.error = Error(code::row_without_key,
                              fmt::format("a row has no field \"{}\" that is a text or an integer",
                                          printable(rows_.key())));
  }
  advance.left_out.push_back(std::move(without_key));
  return advance;
}

std::string Computation::restore(SnapshotReader& reader, std::vector<LeftOut>& left_out) {
  const auto unreadable = [&](const Unreadable& document) {
    left_out.push_back({document.input + "." + document.key, document.error});
  };
  const auto take = [&] {
    rows_.absorb(step(input_).outputs.at(kOutput));
    note_errors(left_out);
  };
  if (!inputs_.restore(reader, input_, take, unreadable)) {
    return "it is not of the inputs of the view";
  }
  rows_.drop_empty();  // of inputs that were there before others
  return {};
}

const engine::StepResult& Computation::step(engine::StepInput& input) {
  const auto now = internal::SystemClock::now().time_since_epoch();
  input.time =
      engine::StepTime{std::chrono::duration_cast<std::chrono::seconds>(now).count(), steps_};
  ++steps_;
  if (!program_.step(input, result_)) throw Error(code::step_failed, result_.failure);
  return result_;
}

void Computation::note_errors(std::vector<LeftOut>& left_out) const {
  for (const engine::Row& row : result_.errors) {
    engine::ValueRef node;
    engine::ValueRef text;
    if (!row.value->find("node", node) || !row.value->find("error", text)) continue;
    LeftOut one{fmt::format("{}.{:08x}", node.as_string(), engine::hash(row.value)), std::nullopt};
    if (row.weight > 0) one.error = Error(code::not_evaluated, printable(text.as_string(), 500));
    left_out.push_back(std::move(one));
  }
}

}  // namespace dmm::view
