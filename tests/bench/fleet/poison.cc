#include <fmt/format.h>

#include <stdexcept>

#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/scene.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {

namespace {

using std::chrono::steady_clock;

constexpr std::size_t kWorkers = 2;

/// Of `count` poisoned identities 4 in 10 throw, 3 hang, 3 crash.
const char* kind_of(std::size_t number) {
  constexpr const char* kKinds[] = {"throw", "hang",  "crash", "throw", "hang",
                                    "crash", "throw", "hang",  "crash", "throw"};
  return kKinds[number % 10];
}

struct Poisoned {
  std::vector<double> whole;     ///< latencies from the first poison to the end
  std::vector<double> crashing;  ///< those while workers crash
  std::vector<double> after;     ///< and when those that crash them are parked
  std::size_t crashes = 0;
  double until_parked_s = 0;
};

std::vector<double> measure_clean(const FleetSize& size) {
  Scene scene;
  scene.start_workers(kWorkers);
  scene.bring_for("i", size.identities, size.rate, std::chrono::seconds(5));
  const std::uint64_t first = scene.board().samples;
  scene.bring_for("i", size.identities, size.rate, size.time);
  scene.wait_for_tokens(0, std::chrono::seconds(30));
  return scene.board().latencies(first);
}

Poisoned measure_poisoned(const FleetSize& size) {
  Scene scene;
  scene.start_workers(kWorkers);
  scene.bring_for("i", size.identities, size.rate, std::chrono::seconds(5));
  const std::size_t poisoned = std::max<std::size_t>(size.identities / 100, 3);
  std::size_t crashers = 0;
  for (std::size_t i = 0; i < poisoned; ++i) {
    crashers += kind_of(i)[0] == 'c' ? 1 : 0;
    scene.bucket().notify({kType, fmt::format("poison{}", i)}, {{"do", kind_of(i)}});
  }
  Poisoned result;
  const std::uint64_t poison = scene.board().samples;
  std::uint64_t first = poison;
  const auto begun = steady_clock::now();
  auto next_look = begun;
  std::size_t parked = 0;
  scene.bring("i", size.identities, size.rate, [&] {
    if (steady_clock::now() < next_look) return true;
    next_look = steady_clock::now() + std::chrono::milliseconds(500);
    if (steady_clock::now() - begun > std::chrono::minutes(5)) {
      throw std::runtime_error("those that crash their workers were not parked in five minutes");
    }
    parked = 0;
    for (std::size_t i = 0; i < poisoned; ++i) {
      const auto matter = scene.bucket().inspect().get({kType, fmt::format("poison{}", i)});
      parked += matter && matter->error_code == "DMM-0309" && matter->phase == Phase::parked;
    }
    return parked < crashers;
  });
  result.until_parked_s = std::chrono::duration<double>(steady_clock::now() - begun).count();
  result.crashes = scene.look_around();
  scene.bring_for("i", size.identities, size.rate, std::chrono::seconds(6));
  result.crashing = scene.board().latencies(first);
  first = scene.board().samples;
  scene.bring_for("i", size.identities, size.rate, size.time);
  scene.wait_for_tokens(poisoned, std::chrono::seconds(30));
  result.after = scene.board().latencies(first);
  result.whole = scene.board().latencies(poison);
  if (scene.look_around() != result.crashes) {
    throw std::runtime_error("a worker ended when those that crash it were parked");
  }
  return result;
}

}  // namespace

void measure_poison(const FleetSize& size, Report& report) {
  const std::vector<double> clean = measure_clean(size);
  const Poisoned poisoned = measure_poisoned(size);
  const char* const kAgainst = "without poison";
  Figure p99{
      "poison p99", quantile(poisoned.after, 0.99), "ms", kAgainst, quantile(clean, 0.99), {}, {}};
  const double ratio = p99.ratio();
  p99.floor = {"<= 2.00", [=] { return ratio <= 2; }};
  p99.aim = {"<= 1.20", [=] { return ratio <= 1.2; }};
  report.add(std::move(p99));
  report.add({"poison p50", median(poisoned.after), "ms", kAgainst, median(clean), {}, {}});
  report.add({"poison whole p99",
              quantile(poisoned.whole, 0.99),
              "ms",
              kAgainst,
              quantile(clean, 0.99),
              {},
              {}});
  report.add(
      {"poison crashing p50", median(poisoned.crashing), "ms", kAgainst, median(clean), {}, {}});
  report.add({"poison crashing p99",
              quantile(poisoned.crashing, 0.99),
              "ms",
              kAgainst,
              quantile(clean, 0.99),
              {},
              {}});
  report.add({"poison crashes", static_cast<double>(poisoned.crashes), "", "", 0, {}, {}});
  report.add({"poison until parked", poisoned.until_parked_s, "s", "", 0, {}, {}});
}

}  // namespace dmm::bench
