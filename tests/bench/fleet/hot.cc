#include <fmt/format.h>

#include <stdexcept>

#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/scene.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {

namespace {

using std::chrono::steady_clock;

constexpr std::size_t kWorkers = 2;

struct Hot {
  std::vector<double> others;  ///< latencies
  double rate = 0;             ///< notifies a second
  std::uint64_t runs = 0;
};

/// rate   of the notifies of one identity; 0: none.
Hot measure(const FleetSize& size, double rate) {
  Scene scene;
  scene.start_workers(kWorkers);
  scene.bring_for("i", size.identities, size.rate, std::chrono::seconds(5));
  Hot hot;
  std::uint64_t number = 0;
  const std::uint64_t first = scene.board().samples;
  const auto begun = steady_clock::now();
  scene.bring_for("i", size.identities, size.rate, size.time, [&] {
    const std::chrono::duration<double> since = steady_clock::now() - begun;
    std::vector<std::pair<Identity, nlohmann::json>> batch;
    while (static_cast<double>(number) < since.count() * rate && batch.size() < 2'000) {
      batch.emplace_back(Identity{kType, "hot"},
                         nlohmann::json{{"do", "hot"}, {"number", ++number}});
    }
    if (batch.empty()) return;
    const auto failed = scene.bucket().notify_all(batch);
    if (!failed.empty()) throw failed.front().error;
  });
  hot.rate = static_cast<double>(number) /
             std::chrono::duration<double>(steady_clock::now() - begun).count();
  scene.wait_for_tokens(0, std::chrono::seconds(30));
  hot.others = scene.board().latencies(first);
  hot.runs = scene.board().hot_runs;
  if (scene.board().hot_overlaps > 0)
    throw std::runtime_error("two runs of one identity overlapped");
  if (scene.board().hot_older > 0) throw std::runtime_error("a run was given older news");
  if (scene.board().hot_newest != number) throw std::runtime_error("the newest news were not run");
  return hot;
}

}  // namespace

void measure_hot(const FleetSize& size, Report& report) {
  const Hot clean = measure(size, 0);
  const Hot hot = measure(size, size.hot_rate);
  const char* const kAgainst = "without it";
  Figure p99{"hot others p99",
             quantile(hot.others, 0.99),
             "ms",
             kAgainst,
             quantile(clean.others, 0.99),
             {},
             {}};
  const double ratio = p99.ratio();
  p99.floor = {"<= 2.00", [=] { return ratio <= 2; }};
  p99.aim = {"<= 1.20", [=] { return ratio <= 1.2; }};
  report.add(std::move(p99));
  report.add({"hot others p50", median(hot.others), "ms", kAgainst, median(clean.others), {}, {}});
  report.add({"hot notifies", hot.rate, "1/s", "wanted", size.hot_rate, {}, {}});
  report.add({"hot runs",
              static_cast<double>(hot.runs) / static_cast<double>(size.time.count()),
              "1/s",
              "",
              0,
              {},
              {}});
}

}  // namespace dmm::bench
