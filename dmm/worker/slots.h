#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/metrics.h"

namespace dmm::worker {

/// How many slots a type has in this worker, and how many of them are lost: their runs were told to
/// stop long ago and go on. And how often there was no thread for one. The run loop counts, anybody
/// may ask.
class Slots final : public MetricSource {
 public:
  using Clock = internal::SteadyClock;
  /// Whoever heeds a stop token has returned by then.
  static constexpr std::chrono::seconds kDeafAfter{5};

  static constexpr std::array<Metric, 3> kFamilies{
      {{"dmm_slots", MetricType::gauge, "type", "Runs that may be under way at a time"},
       {"dmm_slots_lost", MetricType::gauge, "type",
        "Of them, those held by runs that do not end though they were told to stop"},
       {"dmm_threads_refused_total", MetricType::counter, "type",
        "Threads for runs that the system did not make; the others do their work"}}};

  explicit Slots(std::string type) : type_(std::move(type)) {}

  std::size_t all() const noexcept { return all_; }
  std::size_t lost() const noexcept { return lost_; }

  // ---- the run loop's
  void told_to_stop(const void* run) {
    const auto same = [run](const auto& one) { return one.first == run; };
    if (std::ranges::none_of(overdue_, same)) overdue_.emplace_back(run, Clock::now());
  }
  void ended(const void* run) {
    std::erase_if(overdue_, [run](const auto& one) { return one.first == run; });
  }
  void count(std::size_t all) {
    const auto deaf = Clock::now() - kDeafAfter;
    lost_ = static_cast<std::size_t>(
        std::ranges::count_if(overdue_, [&](const auto& one) { return one.second <= deaf; }));
    all_ = all;
  }
  /// times   in all, since the work began.
  void count_refused(std::uint64_t times) {
    if (times > refused_now_) refused_ += times - refused_now_;
    refused_now_ = times;
  }

  // ---- MetricSource
  std::span<const Metric> families() const noexcept override { return kFamilies; }
  void collect(MetricSink& to) const override {
    to.add(kFamilies[0].name, {{"type", type_}}, static_cast<double>(all()));
    to.add(kFamilies[1].name, {{"type", type_}}, static_cast<double>(lost()));
    to.add(kFamilies[2].name, {{"type", type_}}, static_cast<double>(refused_));
  }

 private:
  const std::string type_;
  std::vector<std::pair<const void*, Clock::time_point>> overdue_;  ///< and since when
  std::atomic<std::size_t> all_ = 0;
  std::atomic<std::size_t> lost_ = 0;
  std::uint64_t refused_now_ = 0;  ///< of the present work
  std::atomic<std::uint64_t> refused_ = 0;
};

}  // namespace dmm::worker
