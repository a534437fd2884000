#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "tests/bench/engine/figures.h"

namespace dmm::bench {
namespace {

std::string number(double value) {
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.1f}k", value / 1e3);
  if (value >= 100) return fmt::format("{:.0f}", value);
  return fmt::format("{:.2f}", value);
}

/// "7.17 (0.47x)": a baseline and what dmm is in relation to it.
std::string beside(const Figure& figure, double baseline) {
  if (baseline <= 0) return "-";
  return fmt::format("{} ({:.3g}x)", number(baseline), figure.value / baseline);
}

std::string beside(const Compared& compared, const std::vector<Compared::Baseline>& list,
                   const std::string& name) {
  for (const Compared::Baseline& baseline : list) {
    if (baseline.against.starts_with(name + ",")) return beside(compared.figure, baseline.value);
  }
  return "";
}

std::string verdict(const Figure& figure) {
  if (figure.floor.text.empty()) return "";
  if (!figure.floor.reached()) return "BELOW FLOOR";
  if (figure.aim.text.empty()) return "reached";
  return figure.aim.reached() ? "aim reached" : "floor reached";
}

}  // namespace

void print_table(const std::vector<Compared>& figures) {
  constexpr const char* kLine =
      "{:<36} {:>8} {:<3}  {:<16} {:<17} {:<16}  {:<16} {:<16}  {:<9} {:<9} {}\n";
  fmt::print(
      "A baseline stands with the ratio of dmm to it; dbsp* and dd* (differential-dataflow) are\n"
      "quoted, measured on another day.\n\n");
  fmt::print(fmt::runtime(kLine), "figure", "dmm", "", "ceiling", "SQLite", "db-ivm", "dbsp*",
             "dd*", "floor", "aim", "");
  for (const Compared& compared : figures) {
    const Figure& figure = compared.figure;
    if (!compared.shown) continue;
    const bool itself = figure.against.starts_with("itself") || figure.against.starts_with("dbsp");
    fmt::print(
        fmt::runtime(kLine), figure.name, number(figure.value), figure.unit,
        itself ? "" : beside(figure, figure.baseline), beside(compared, compared.peers, "SQLite"),
        beside(compared, compared.peers, "db-ivm"), beside(compared, compared.quoted, "dbsp"),
        beside(compared, compared.quoted, "differential-dataflow"), figure.floor.text,
        figure.aim.text, verdict(figure));
  }
  std::fflush(stdout);
}

}  // namespace dmm::bench
