#include "dmm/view/inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/view/input.h"

namespace dmm::view {

Inputs::Inputs(const internal::Streams& streams, const View& view, engine::Program& program,
               ServerClock& clock, std::function<void()> wake, Keep keep)
    : wake_(std::move(wake)) {
  for (const ViewInput& input : view.inputs) {
    inputs_.push_back(std::make_unique<Input>(streams, input, program, clock, wake_, keep));
  }
}

Inputs::~Inputs() = default;

nlohmann::json Inputs::baseline_of(const Input& input, const nlohmann::json& baselines) {
  return baselines.is_object() ? baselines.value(input.description(), nlohmann::json())
                               : nlohmann::json();
}

void Inputs::open(const nlohmann::json& baselines) {
  for (const auto& input : inputs_) {
    input->open(baseline_of(*input, baselines));
  }
}

void Inputs::open(const nlohmann::json& baselines, const std::vector<SourceMark>& marks) {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    inputs_[i]->open(baseline_of(*inputs_[i], baselines), marks.at(i));
  }
}

std::string Inputs::lost(const nlohmann::json& baselines,
                         const std::vector<SourceMark>& marks) const {
  if (marks.size() != inputs_.size()) return "the inputs are others";
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i]->lost(baseline_of(*inputs_[i], baselines), marks[i])) {
      return fmt::format("{} may have lost something since", inputs_[i]->description());
    }
  }
  return {};
}

std::vector<SourceMark> Inputs::marks() const {
  std::vector<SourceMark> marks;
  for (const auto& input : inputs_) marks.push_back(input->mark());
  return marks;
}

std::vector<std::string> Inputs::fields() const {
  std::vector<std::string> fields;
  for (const auto& input : inputs_) fields.push_back(input->decoded_fields());
  return fields;
}

bool Inputs::sound() const {
  return std::ranges::all_of(inputs_, [](const auto& input) { return input->sound(); });
}

void Inputs::save(SnapshotWriter& writer) const {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < inputs_.size(); ++i) order.push_back(i);
  std::ranges::stable_sort(order, {}, [this](std::size_t i) { return inputs_[i]->rows(); });
  for (const std::size_t i : order) {
    writer.number(i);
    inputs_[i]->save(writer);
  }
}

bool Inputs::restore(SnapshotReader& reader, engine::StepInput& step,
                     const std::function<void()>& take,
                     const std::function<void(const Unreadable&)>& unreadable) {
  for (std::size_t n = 0; n < inputs_.size(); ++n) {
    const std::uint64_t i = reader.number();
    if (!reader.ok() || i >= inputs_.size()) return false;
    engine::Batch& batch = step.batches[inputs_[i]->name()];
    if (!inputs_[i]->restore(reader, batch, counts_, take, unreadable)) return false;
  }
  return reader.at_end();
}

InputEvents Inputs::take(std::size_t changes_max, engine::StepInput& step,
                         const std::function<void(const Unreadable&)>& unreadable) {
  InputEvents events;
  for (const auto& input : inputs_) {
    engine::Batch& batch = step.batches[input->name()];
    input->take(changes_max, batch, events, counts_, unreadable);
  }
  if (!loaded_at_ && std::ranges::all_of(inputs_, [](const auto& one) { return one->loaded(); })) {
    loaded_at_ = internal::SteadyClock::now();
  }
  return events;
}

bool Inputs::waiting() const {
  return std::ranges::any_of(inputs_, [](const auto& input) { return input->waiting(); });
}

bool Inputs::complete() const {
  return std::ranges::all_of(inputs_, [](const auto& input) { return input->complete(); });
}

bool Inputs::ready() const {
  return complete() ||
         (loaded_at_ && internal::SteadyClock::now() - *loaded_at_ > limits::view_complete_wait);
}

std::string Inputs::unread() const {
  for (const auto& input : inputs_) {
    if (std::string unread = input->unread(); !unread.empty()) return unread;
  }
  return {};
}

std::size_t Inputs::rows() const {
  std::size_t rows = 0;
  for (const auto& input : inputs_) rows += input->rows();
  return rows;
}

std::size_t Inputs::memory() const {
  std::size_t bytes = 0;
  for (const auto& input : inputs_) bytes += input->memory();
  return bytes;
}

void Inputs::each(const Visit& visit) const {
  for (const auto& input : inputs_) input->each(visit);
}

std::vector<ViewInputInfo> Inputs::infos() const {
  std::vector<ViewInputInfo> infos;
  for (const auto& input : inputs_) infos.push_back(input->info());
  return infos;
}

}  // namespace dmm::view
