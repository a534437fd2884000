#pragma once

// The text format of Prometheus, version 0.0.4: what a scrape reads.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dmm/durations.h"

namespace dmm::service {

enum class MetricType : std::uint8_t { counter, gauge, histogram };
std::string_view to_string(MetricType type) noexcept;

/// A metric as it is documented. Names and units follow the practice of Prometheus: base units,
/// counters end in _total.
struct Metric {
  std::string_view name;
  MetricType type;
  std::string_view labels;  ///< their names, with commas
  std::string_view help;    ///< one sentence, without a full stop
};

using Labels = std::vector<std::pair<std::string_view, std::string>>;

/// The samples of one scrape. One thread.
class Exposition final {
 public:
  /// The metrics that may be added, in the order in which they are written; outlive this.
  explicit Exposition(std::span<const Metric> metrics);

  /// metric   the name of one of them; another one is a bug, and throws.
  void add(std::string_view metric, const Labels& labels, double value);
  void add(std::string_view metric, const Labels& labels, const Durations& durations);

  /// Those that have a sample.
  std::string text() const;

 private:
  std::string& lines_of(std::string_view metric);

  std::span<const Metric> metrics_;
  std::vector<std::string> lines_;  ///< of each
};

}  // namespace dmm::service
