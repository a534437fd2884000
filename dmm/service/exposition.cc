#include "dmm/service/exposition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "dmm/error.h"

namespace dmm::service {

namespace {

std::string escaped(std::string_view text, bool label) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && label) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string label_text(const MetricLabels& labels, std::string_view le = {}) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", name, escaped(value, true));
  }
  if (!le.empty()) text += fmt::format("{}le=\"{}\"", text.empty() ? "" : ",", le);
  return text.empty() ? text : "{" + text + "}";
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

}  // namespace

Exposition::Exposition(std::span<const Metric> metrics)
    : metrics_(metrics), lines_(metrics.size()) {}

std::string& Exposition::lines_of(std::string_view metric) {
  const auto found = std::ranges::find(metrics_, metric, &Metric::name);
  if (found == metrics_.end()) {
    throw Error(code::bug, fmt::format("there is no metric {}", metric));
  }
  return lines_[static_cast<std::size_t>(found - metrics_.begin())];
}

void Exposition::add(std::string_view metric, const MetricLabels& labels, double value) {
  lines_of(metric) += fmt::format("{}{} {}\n", metric, label_text(labels), number_text(value));
}

void Exposition::add(std::string_view metric, const MetricLabels& labels,
                     const Durations& durations) {
  std::string& lines = lines_of(metric);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < durations.counts.size(); ++i) {
    below += durations.counts[i];
    const bool last = i == Durations::kBounds.size();
    const std::string bound =
        last ? "+Inf" : number_text(static_cast<double>(Durations::kBounds[i].count()) / 1'000'000);
    lines += fmt::format("{}_bucket{} {}\n", metric, label_text(labels, bound), below);
  }
  const double sum = std::chrono::duration<double>(durations.sum).count();
  lines += fmt::format("{}_sum{} {}\n", metric, label_text(labels), number_text(sum));
  lines += fmt::format("{}_count{} {}\n", metric, label_text(labels), below);
}

std::string Exposition::text() const {
  std::string text;
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    if (lines_[i].empty()) continue;
    text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", metrics_[i].name,
                        escaped(metrics_[i].help, false), metrics_[i].name,
                        to_string(metrics_[i].type));
    text += lines_[i];
  }
  return text;
}

}  // namespace dmm::service
