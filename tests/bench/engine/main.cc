// The area "engine" of scripts/bench: dmm's engine on the workloads of workload.h, beside programs
// written by hand for each of them, SQLite, and db-ivm. See docs/reference/benchmarks.md.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/bench/engine/figures.h"
#include "tests/bench/engine/measure.h"
#include "tests/bench/engine/options.h"
#include "tests/bench/engine/session.h"

namespace dmm::bench {
namespace {

int run_verify(const Options& options) {
  for (const std::uint32_t size : options.sizes) {
    for (const std::string& workload : options.workloads) {
      verify(workload, size);
      fmt::print("{} {}: ok\n", workload, size_name(size));
      std::fflush(stdout);
    }
  }
  return 0;
}

int run(const Options& options) {
  if (options.child) {
    fmt::print("{}\n", to_json(measure(*options.child)).dump());
    return 0;
  }
  if (options.verify) return run_verify(options);
  const Session session(options);
  const std::vector<Compared> figures = make_figures(options, session);
  const Report report = make_report(figures);
  print_table(figures);
  for (const std::string& note : session.notes()) fmt::print("note: {}\n", note);
  if (!options.json.empty()) report.append_json(options.json);
  const auto below = report.below_floor();
  if (!below.empty()) fmt::print("below the floor: {}\n", fmt::join(below, ", "));
  return options.check && !below.empty() ? 3 : 0;
}

}  // namespace
}  // namespace dmm::bench

int main(int argc, char** argv) {
  try {
    return dmm::bench::run(dmm::bench::parse_options({argv + 1, argv + argc}));
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr, "bench_engine: {}\n{}", e.what(), dmm::bench::kUsage);
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_engine: {}\n", e.what());
    return 1;
  }
}
