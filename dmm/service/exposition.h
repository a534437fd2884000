#pragma once

// The text format of Prometheus, version 0.0.4: what a scrape reads.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/metrics.h"

namespace dmm::service {

/// The samples of one scrape. One thread.
class Exposition final : public MetricSink {
 public:
  /// The metrics that may be added, in the order in which they are written; outlive this.
  explicit Exposition(std::span<const Metric> metrics);

  void add(std::string_view metric, const MetricLabels& labels, double value) override;
  void add(std::string_view metric, const MetricLabels& labels,
           const Durations& durations) override;

  /// Those that have a sample.
  std::string text() const;

 private:
  std::string& lines_of(std::string_view metric);

  std::span<const Metric> metrics_;
  std::vector<std::string> lines_;  ///< of each
};

}  // namespace dmm::service
