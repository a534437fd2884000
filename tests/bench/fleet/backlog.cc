#include <fmt/format.h>

#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/scene.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {

namespace {

using std::chrono::steady_clock;

constexpr double kFreshRate = 50;

void fill(Scene& scene, std::size_t tokens) {
  constexpr std::size_t kAtOnce = 10'000;
  std::vector<std::pair<Identity, nlohmann::json>> batch;
  for (std::size_t i = 0; i < tokens; ++i) {
    batch.emplace_back(Identity{kType, fmt::format("b{:07}", i)},
                       nlohmann::json{{"song", fmt::format("number {}", i)}, {"volume", 11}});
    if (batch.size() < kAtOnce && i + 1 < tokens) continue;
    const auto failed = scene.bucket().notify_all(batch);
    if (!failed.empty()) throw failed.front().error;
    batch.clear();
  }
}

}  // namespace

void measure_backlog(const FleetSize& size, Report& report) {
  Scene scene;
  fill(scene, size.backlog);
  const auto begun = steady_clock::now();
  scene.start_workers(1);
  // Fresh news, each to an identity of its own, until the backlog is done.
  std::uint64_t left = size.backlog;
  auto next_look = begun;
  scene.bring("fresh", 1'000'000, kFreshRate, [&] {
    if (steady_clock::now() < next_look) return true;
    next_look = steady_clock::now() + std::chrono::milliseconds(200);
    left = scene.tokens();
    return left > 100;
  });
  const double seconds = std::chrono::duration<double>(steady_clock::now() - begun).count();
  scene.wait_for_tokens(0, std::chrono::seconds(30));
  const std::vector<double> fresh = scene.board().latencies();
  const double megabytes = static_cast<double>(scene.peak_bytes()) / 1e6;
  report.add({"backlog rate", static_cast<double>(size.backlog) / seconds, "1/s", "", 0, {}, {}});
  report.add({"backlog memory",
              megabytes,
              "MB",
              "",
              0,
              {"<= 512 MB", [=] { return megabytes <= 512; }},
              {"<= 256 MB", [=] { return megabytes <= 256; }}});
  const double p99 = quantile(fresh, 0.99);
  report.add({"backlog fresh p50", median(fresh), "ms", "", 0, {}, {}});
  report.add({"backlog fresh p99",
              p99,
              "ms",
              "",
              0,
              {"<= 5000 ms", [=] { return p99 <= 5'000; }},
              {"<= 1000 ms", [=] { return p99 <= 1'000; }}});
}

}  // namespace dmm::bench
