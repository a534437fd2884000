#include "tests/bench/engine/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string_view>

#include "tests/bench/engine/goals.h"
#include "tests/bench/engine/quoted.h"

namespace dmm::bench {
namespace {

constexpr const char* kCeilingIs = "ceiling, written by hand for the workload";
constexpr const char* kSqliteIs = "SQLite, in memory, targeted queries";
constexpr const char* kDbIvmIs = "db-ivm, @tanstack/db-ivm 0.2.0";

struct Statistic {
  const char* name;
  const char* unit;
  std::function<double(const Measurement&)> value;
};

double per_second(std::size_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

double us_each(std::size_t count, double seconds) {
  return count > 0 ? seconds * 1e6 / static_cast<double>(count) : 0;
}

// Rates are for a second of CPU time of one core: what other work takes does not count.
const std::vector<Statistic>& statistics() {
  using M = Measurement;
  static const std::vector<Statistic> list{
      {"one-row p50", "us", [](const M& m) { return m.p50_us; }},
      {"one-row p99", "us", [](const M& m) { return m.p99_us; }},
      {"one-row max", "us", [](const M& m) { return m.max_us; }},
      {"one-row cpu", "us", [](const M& m) { return us_each(m.updates, m.updates_cpu_s); }},
      {"batch", "1/s", [](const M& m) { return per_second(m.batch_updates, m.batch_cpu_s); }},
      {"batch wall", "1/s", [](const M& m) { return per_second(m.batch_updates, m.batch_s); }},
      {"load", "1/s", [](const M& m) { return per_second(m.rows, m.load_cpu_s); }},
      {"load wall", "1/s", [](const M& m) { return per_second(m.rows, m.load_s); }},
      {"bytes-per-row", "B", [](const M& m) { return m.row_bytes; }},
  };
  return list;
}

// A report is one step and many rows; its statistics have names of their own.
const std::vector<Statistic>& report_statistics() {
  using M = Measurement;
  static const std::vector<Statistic> list{
      {"ingest", "1/s", [](const M& m) { return per_second(m.updates, m.report_cpu_s); }},
      {"ingest p50", "us", [](const M& m) { return m.p50_us; }},
      {"ingest p99", "us", [](const M& m) { return m.p99_us; }},
      {"ingest max", "us", [](const M& m) { return m.max_us; }},
      {"batch", "1/s", [](const M& m) { return per_second(m.batch_updates, m.batch_cpu_s); }},
      {"batch wall", "1/s", [](const M& m) { return per_second(m.batch_updates, m.batch_s); }},
      {"load", "1/s", [](const M& m) { return per_second(m.rows, m.load_cpu_s); }},
      {"load wall", "1/s", [](const M& m) { return per_second(m.rows, m.load_s); }},
      {"bytes-per-row", "B", [](const M& m) { return m.row_bytes; }},
  };
  return list;
}

/// "W6-unchanged", "ingest p50" -> "W6 unchanged p50".
std::string figure_name(const std::string& workload, const std::string& statistic,
                        const std::string& size, bool text) {
  std::string name = fmt::format("{} {} {}{}", workload, statistic, size, text ? " json" : "");
  if (workload.starts_with("W6-")) {
    name[2] = ' ';
    if (const auto at = name.find(" ingest"); at != std::string::npos) name.erase(at, 7);
  }
  return name;
}

class Maker {
 public:
  Maker(const Options& options, const Session& session) : options_(options), session_(session) {}

  std::vector<Compared> make() {
    for (const std::string& workload : options_.workloads) {
      for (const bool text : {false, true}) {
        for (const std::uint32_t size : options_.sizes) add_all(workload, size, text);
        add_flatness(workload, text);
      }
    }
    add_mean();
    return std::move(figures_);
  }

 private:
  static const std::vector<Statistic>& statistics_of(const std::string& workload) {
    return is_reports(workload) ? report_statistics() : statistics();
  }

  void add_all(const std::string& workload, std::uint32_t size, bool text) {
    const Measurement* dmm = session_.find(text ? "dmm-json" : "dmm", workload, size);
    const Measurement* ceiling = session_.find(text ? "ceiling-json" : "ceiling", workload, size);
    if (dmm == nullptr || ceiling == nullptr) return;
    for (const Statistic& statistic : statistics_of(workload)) {
      // What a small run grows by is what the allocator takes in advance.
      if (size < 100'000 && std::string_view(statistic.name) == "bytes-per-row") continue;
      Compared compared;
      compared.figure = {figure_name(workload, statistic.name, size_name(size), text),
                         statistic.value(*dmm),
                         statistic.unit,
                         kCeilingIs,
                         statistic.value(*ceiling),
                         {},
                         {}};
      if (!text) add_peers(workload, size, statistic, compared);
      finish(workload, statistic.name, size, text, std::move(compared));
    }
    if (!is_reports(workload) && dmm->p50_us > 0) {
      Compared tail;
      tail.figure = {figure_name(workload, "one-row p99-over-p50", size_name(size), text),
                     dmm->p99_us / dmm->p50_us,
                     "x",
                     kCeilingIs,
                     ceiling->p50_us > 0 ? ceiling->p99_us / ceiling->p50_us : 0,
                     {},
                     {}};
      finish(workload, "one-row p99-over-p50", size, text, std::move(tail));
    }
    add_instructions(workload, size, text);
  }

  // They take rows; text would measure somebody else's JSON.
  void add_peers(const std::string& workload, std::uint32_t size, const Statistic& statistic,
                 Compared& compared) {
    if (const Measurement* peer = session_.find("sqlite", workload, size)) {
      compared.peers.push_back({kSqliteIs, statistic.value(*peer)});
    }
    if (const Measurement* peer = session_.find(kDbIvm, workload, size)) {
      compared.peers.push_back({kDbIvmIs, statistic.value(*peer)});
    }
  }

  void add_instructions(const std::string& workload, std::uint32_t size, bool text) {
    const auto count = session_.instructions(text ? "dmm-json" : "dmm", workload, size);
    if (!count) return;
    const char* statistic = "one-row instructions";
    Compared compared;
    compared.figure = {figure_name(workload, statistic, size_name(size), text),
                       *count,
                       "1",
                       kCeilingIs,
                       *session_.instructions(text ? "ceiling-json" : "ceiling", workload, size),
                       {},
                       {}};
    finish(workload, statistic, size, text, std::move(compared));
    const auto first = session_.instructions(text ? "dmm-json" : "dmm", workload, 1'000);
    if (!first || size != 100'000) return;
    Compared flat;
    flat.figure = {figure_name(workload, "one-row instructions-flatness", size_name(size), text),
                   *count / *first,
                   "x",
                   "itself, at 1k rows",
                   1,
                   {},
                   {}};
    finish(workload, "one-row instructions-flatness", size, text, std::move(flat));
  }

  /// How the median grows from the smallest to the largest size.
  void add_flatness(const std::string& workload, bool text) {
    const std::string subject = text ? "dmm-json" : "dmm";
    const std::uint32_t small = options_.sizes.front();
    const std::uint32_t large = options_.sizes.back();
    const Measurement* first = session_.find(subject, workload, small);
    const Measurement* last = session_.find(subject, workload, large);
    if (small == large || first == nullptr || last == nullptr || first->p50_us <= 0) return;
    const char* statistic = is_reports(workload) ? "ingest flatness" : "one-row flatness";
    Compared compared;
    compared.figure = {figure_name(workload, statistic, size_name(large), text),
                       last->p50_us / first->p50_us,
                       "x",
                       fmt::format("itself, at {} rows", size_name(small)),
                       1,
                       {},
                       {}};
    finish(workload, statistic, large, text, std::move(compared));
  }

  void finish(const std::string& workload, const std::string& statistic, std::uint32_t size,
              bool text, Compared compared) {
    if (!text) {
      for (const Quoted& mark : quoted_marks(workload, statistic, size)) {
        compared.quoted.push_back({fmt::format("{}, {}", mark.engine, kQuotedNote), mark.value});
      }
    }
    set_goals({workload, statistic, size, text}, compared);
    const bool largest = size == options_.sizes.back();
    compared.shown = !compared.figure.floor.text.empty() || is_shown(statistic, largest);
    figures_.push_back(std::move(compared));
  }

  static bool is_shown(const std::string& statistic, bool largest) {
    if (statistic == "load" || statistic == "bytes-per-row") return largest;
    return statistic.ends_with(" p50") || statistic.ends_with("flatness") ||
           statistic.ends_with("instructions") || statistic == "batch" || statistic == "ingest";
  }

  /// Geometric mean of one-row p50 by dbsp's, over the workloads that have a mark.
  void add_mean() {
    constexpr std::uint32_t kSize = 100'000;
    double sum = 0;
    int count = 0;
    for (const std::string& workload : options_.workloads) {
      const Measurement* dmm = session_.find("dmm", workload, kSize);
      const auto marks = quoted_marks(workload, "one-row p50", kSize);
      if (dmm == nullptr || marks.empty() || dmm->p50_us <= 0) continue;
      sum += std::log(dmm->p50_us / marks.front().value);
      ++count;
    }
    if (count < 2) return;
    Compared mean;
    mean.figure = {"all one-row p50-by-dbsp 100k",
                   std::exp(sum / count),
                   "x",
                   fmt::format("dbsp, {}", kQuotedNote),
                   1,
                   {},
                   {}};
    set_goals({"all", "one-row p50-by-dbsp", kSize, false}, mean);
    figures_.push_back(std::move(mean));
  }

  const Options& options_;
  const Session& session_;
  std::vector<Compared> figures_;
};

}  // namespace

std::vector<Compared> make_figures(const Options& options, const Session& session) {
  return Maker(options, session).make();
}

Report make_report(const std::vector<Compared>& figures) {
  Report report;
  for (const Compared& compared : figures) {
    report.add(compared.figure);
    for (const auto* list : {&compared.peers, &compared.quoted}) {
      for (const Compared::Baseline& baseline : *list) {
        Figure figure = compared.figure;
        figure.against = baseline.against;
        figure.baseline = baseline.value;
        figure.floor = {};
        figure.aim = {};
        report.add(std::move(figure));
      }
    }
  }
  return report;
}

}  // namespace dmm::bench
