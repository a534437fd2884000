#pragma once

// What a part of a program counts, in a form that whoever serves metrics can read: families with a
// help text, and their samples at the moment of a scrape. A part that has counters makes a
// MetricSource and gives it to its bucket (Bucket::add_metrics); a service serves the sources of
// its bucket under /metrics beside its own (docs/reference/metrics.md).
//
// Invariants: (1) a name is of one family only; (2) a source adds samples of its own families only;
// (3) names and units follow the practice of Prometheus: base units, counters end in _total.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dmm/durations.h"

namespace dmm {

enum class MetricType : std::uint8_t { counter, gauge, histogram };
std::string_view to_string(MetricType type) noexcept;

/// A family of samples, as it is documented. The texts outlive all that use it.
struct Metric {
  std::string_view name;
  MetricType type;
  std::string_view labels;  ///< their names, with commas
  std::string_view help;    ///< one sentence, without a full stop
};

using MetricLabels = std::vector<std::pair<std::string_view, std::string>>;

/// Takes the samples of one scrape. One thread.
class MetricSink {
 public:
  virtual ~MetricSink() = default;
  /// metric   the name of a family of the source; another one is a bug, and throws.
  virtual void add(std::string_view metric, const MetricLabels& labels, double value) = 0;
  virtual void add(std::string_view metric, const MetricLabels& labels,
                   const Durations& durations) = 0;
};

/// A part of a program that counts something.
class MetricSource {
 public:
  virtual ~MetricSource() = default;
  /// Its families, in the order in which they are told: the same span for all sources of a kind.
  virtual std::span<const Metric> families() const noexcept = 0;
  /// Adds a sample for each of them. Any thread, and at any time while someone owns the source: a
  /// scrape owns it, too, so what it reads must live as long as itself. Must not block for long.
  virtual void collect(MetricSink& to) const = 0;
};

}  // namespace dmm
