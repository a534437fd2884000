#include "dmm/view/beside.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::view {

using Clock = internal::SteadyClock;

Beside::Beside(const internal::Streams& streams, const View& view, const CompareOptions& options,
               Inputs::Keep keep)
    : streams_(streams), view_(view), options_(options), keep_(keep) {
  load();
}

void Beside::load() {
  bool whole = false;
  while (!whole) {
    left_out_.clear();
    read_clock();
    computation_.emplace(
        streams_, view_, clock_,
        [this] {
          const std::lock_guard lock(mutex_);
          woken_ = true;
          changed_.notify_one();
        },
        keep_);
    computation_->open({});
    whole = true;
    while (whole && !computation_->inputs().ready()) {
      wait(Clock::now() + std::chrono::milliseconds(100));
      whole = advance();
      if (options_.on_progress) options_.on_progress(computation_->inputs().rows());
    }
  }
}

/// Whoever only looks writes nothing whose date could be read.
void Beside::read_clock() {
  const bool aging = std::ranges::any_of(
      view_.inputs, [](const ViewInput& input) { return input.age.count() > 0; });
  if (!aging) return;
  std::optional<std::chrono::milliseconds> ahead;
  try {
    ahead = streams_.transport->clock_ahead(streams_.names.reports(1).name);
  } catch (const Error& error) {
    streams_.log.info("the clock of the server is not known", {{"error", error.message()}});
  }
  clock_.note(internal::SystemClock::now() + ahead.value_or(std::chrono::milliseconds(0)));
}

void Beside::follow(std::chrono::milliseconds time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) {
    wait(std::min(end, Clock::now() + std::chrono::milliseconds(100)));
    if (!advance()) load();
  }
}

bool Beside::advance() {
  if (options_.stop.stop_requested()) throw Error(code::run_cancelled, "interrupted");
  const auto begun = Clock::now();
  const Advance advance = computation_->advance();
  if (!advance.failure.empty()) throw Error(code::step_failed, advance.failure);
  if (advance.events.restart) return false;
  for (const LeftOut& one : advance.left_out) {
    left_out_.erase(one.place);
    if (one.error) left_out_.emplace(one.place, *one.error);
  }
  touched_ += advance.touched.size();
  for (const std::string& id : advance.touched) computation_->rows().at(id).queued = false;
  time_ += std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begun);
  return true;
}

void Beside::wait(Clock::time_point until) {
  if (computation_->inputs().waiting()) return;
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, until, [this] { return woken_; });
  woken_ = false;
}

}  // namespace dmm::view
