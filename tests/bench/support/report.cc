#include "tests/bench/support/report.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace dmm::bench {
namespace {

std::string number(double value) {
  if (value >= 1'000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.1f}", value);
}

bool reached(const Goal& goal) {
  return goal.text.empty() || goal.reached();
}

std::string verdict(const Figure& figure) {
  if (figure.floor.text.empty()) return "";
  if (!reached(figure.floor)) return "BELOW FLOOR";
  return reached(figure.aim) ? "aim reached" : "floor reached";
}

/// "bullmq 6.7.0" of "bullmq 6.7.0, Redis 7.0.15, concurrency 64", which would not fit a table.
std::string name_of_baseline(const Figure& figure) {
  return figure.against.substr(0, figure.against.find(','));
}

}  // namespace

void Report::print() const {
  fmt::print("{:<20} {:>10} {:>10}  {:<6} {:>6}  {:<11} {:<15} {:<14} {}\n", "figure", "dmm",
             "baseline", "unit", "ratio", "floor", "aim", "", "baseline is");
  for (const Figure& figure : figures_) {
    fmt::print("{:<20} {:>10} {:>10}  {:<6} {:>6.2f}  {:<11} {:<15} {:<14} {}\n", figure.name,
               number(figure.value), number(figure.baseline), figure.unit, figure.ratio(),
               figure.floor.text, figure.aim.text, verdict(figure), name_of_baseline(figure));
  }
  std::fflush(stdout);
}

void Report::append_json(const std::string& path) const {
  std::ofstream out(path, std::ios::app);
  for (const Figure& figure : figures_) {
    // In this order, for people who read the file.
    const nlohmann::ordered_json line{{"figure", figure.name},
                                      {"value", figure.value},
                                      {"unit", figure.unit},
                                      {"against", figure.against},
                                      {"ratio", figure.ratio()}};
    out << line.dump() << '\n';
  }
  out.flush();
  if (!out) throw std::runtime_error("cannot write " + path);
}

std::vector<std::string> Report::below_floor() const {
  std::vector<std::string> names;
  for (const Figure& figure : figures_) {
    if (!reached(figure.floor)) names.push_back(figure.name);
  }
  return names;
}

}  // namespace dmm::bench
