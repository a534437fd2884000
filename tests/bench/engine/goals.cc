#include "tests/bench/engine/goals.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace dmm::bench {
namespace {

std::string short_number(double value) {
  if (value >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (value >= 10'000) return fmt::format("{:.3g}k", value / 1e3);
  return fmt::format("{:.3g}", value);
}

Goal at_most(double value, double wanted) {
  return {fmt::format("<= {}", short_number(wanted)), [=] { return value <= wanted; }};
}

Goal at_least(double value, double wanted) {
  return {fmt::format(">= {}", short_number(wanted)), [=] { return value >= wanted; }};
}

double mark(const Compared& compared, const std::string& engine) {
  for (const Compared::Baseline& quoted : compared.quoted) {
    if (quoted.against.starts_with(engine + ",")) return quoted.value;
  }
  return 0;
}

bool one_of(const std::string& workload, std::initializer_list<const char*> names) {
  return std::ranges::find(names, workload) != names.end();
}

struct Limits {
  double floor;
  double aim;
};

void limit(Figure& figure, Limits limits) {
  figure.floor = at_most(figure.value, limits.floor);
  figure.aim = at_most(figure.value, limits.aim);
}

/// A step on rows: dbsp's time, and a third of it, but no more than 10 times the ceiling's.
void limit_one_row(Compared& compared) {
  Figure& figure = compared.figure;
  const double dbsp = mark(compared, "dbsp");
  if (dbsp == 0) return;
  limit(figure, {dbsp, std::min(dbsp / 3, figure.baseline * 10)});
}

void limit_batch(const FigureKey& key, Compared& compared) {
  Figure& figure = compared.figure;
  const double best = std::max(mark(compared, "dbsp"), mark(compared, "differential-dataflow"));
  if (best == 0) return;
  figure.floor = at_least(figure.value, best);
  figure.aim = at_least(figure.value, one_of(key.workload, {"W2", "W3", "W4"}) ? 2 * best : best);
}

void limit_load(Compared& compared) {
  const double dbsp = mark(compared, "dbsp");
  if (dbsp == 0) return;
  compared.figure.floor = at_least(compared.figure.value, dbsp / 2);
  compared.figure.aim = at_least(compared.figure.value, dbsp);
}

void limit_bytes(Compared& compared) {
  const double dbsp = mark(compared, "dbsp");
  if (dbsp != 0) limit(compared.figure, {1.3 * dbsp, 0.7 * dbsp});
}

void limit_instructions(Compared& compared) {
  const double dbsp = mark(compared, "dbsp");
  if (dbsp != 0) limit(compared.figure, {dbsp, std::min(20'000.0, dbsp / 3)});
}

void set_report_goals(const FigureKey& key, Figure& figure) {
  if (!key.text || key.size != 1'000'000) return;
  if (key.workload == "W6" && key.statistic == "ingest") {
    figure.floor = at_least(figure.value, 50'000);
    figure.aim = at_least(figure.value, 100'000);
  }
  if (key.workload == "W6" && key.statistic == "ingest p99")
    figure.floor = at_most(figure.value, 100);
  if (key.workload == "W6-unchanged" && key.statistic == "ingest p50") {
    figure.floor = at_most(figure.value, 3);
  }
}

void set_document_goals(const FigureKey& key, Figure& figure) {
  if (key.size != 100'000) return;
  if (key.statistic == "one-row p50") limit(figure, {30, 10});
  if (key.statistic == "bytes-per-row") limit(figure, {500, 350});
}

}  // namespace

void set_goals(const FigureKey& key, Compared& compared) {
  Figure& figure = compared.figure;
  if (is_reports(key.workload)) return set_report_goals(key, figure);
  if (key.workload == "endpoints") set_document_goals(key, figure);
  if (key.statistic == "one-row p50-by-dbsp") limit(figure, {1, 0.3});
  if (key.text) return;
  if (key.statistic == "one-row p50") limit_one_row(compared);
  if (key.statistic == "one-row instructions") limit_instructions(compared);
  if (key.statistic == "one-row instructions-flatness") limit(figure, {1.4, 1.15});
  if (key.size != 1'000'000) return;
  if (key.statistic == "batch") limit_batch(key, compared);
  if (key.statistic == "load") limit_load(compared);
  if (key.statistic == "bytes-per-row") limit_bytes(compared);
  if (key.statistic == "one-row p99-over-p50") limit(figure, {10, 5});
  if (key.statistic == "one-row max") limit(figure, {10'000, 1'000});
  if (key.statistic == "one-row flatness") {
    limit(figure, key.workload == "W3h" ? Limits{2, 1.3} : Limits{3, 2});
  }
}

}  // namespace dmm::bench
