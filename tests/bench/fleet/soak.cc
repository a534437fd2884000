#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <iterator>
#include <numeric>

#include "tests/bench/fleet/figures.h"
#include "tests/bench/fleet/scene.h"
#include "tests/bench/support/statistics.h"

namespace dmm::bench {

namespace {

using std::chrono::steady_clock;

constexpr std::size_t kWorkers = 2;
constexpr double kRate = 500;

/// What should not grow.
struct Sample {
  double seconds = 0;
  double megabytes = 0;
  double threads = 0;
  double files = 0;
  double consumers = 0;
};

Sample look(Scene& scene, double seconds) {
  Sample sample{.seconds = seconds};
  for (const pid_t pid : scene.workers()) {
    // Not the board, of which more is touched with each sample.
    sample.megabytes += static_cast<double>(status_of_process(pid, "RssAnon")) / 1e3;
    sample.threads += static_cast<double>(status_of_process(pid, "Threads"));
    const std::filesystem::directory_iterator files(fmt::format("/proc/{}/fd", pid));
    sample.files += static_cast<double>(std::distance(begin(files), end(files)));
  }
  for (const auto& stream : scene.bucket().inspect().streams()) {
    sample.consumers += static_cast<double>(stream.consumers);
  }
  return sample;
}

double mean(const std::vector<Sample>& samples, std::size_t from, std::size_t to,
            double Sample::*member) {
  double sum = 0;
  for (std::size_t i = from; i < to; ++i) sum += samples[i].*member;
  return sum / static_cast<double>(to - from);
}

}  // namespace

void measure_soak(const FleetSize& size, std::chrono::seconds time, Report& report) {
  Scene scene;
  scene.start_workers(kWorkers);
  const auto begun = steady_clock::now();
  std::vector<Sample> samples;
  auto next = begun + time / 5;  // to warm up
  scene.bring_for("i", size.identities, kRate, time, [&] {
    if (steady_clock::now() < next) return;
    next += std::max<steady_clock::duration>(time / 200, std::chrono::seconds(1));
    samples.push_back(
        look(scene, std::chrono::duration<double>(steady_clock::now() - begun).count()));
    const Sample& last = samples.back();
    fmt::print(stderr, "{:6.0f} s: {:.1f} MB, {:.0f} threads, {:.0f} files, {:.0f} consumers\n",
               last.seconds, last.megabytes, last.threads, last.files, last.consumers);
  });
  scene.wait_for_tokens(0, std::chrono::seconds(30));
  const std::size_t quarter = std::max<std::size_t>(samples.size() / 4, 1);
  const auto add = [&](const char* name, const char* unit, double Sample::*member, double allowed) {
    const double first = mean(samples, 0, quarter, member);
    const double last = mean(samples, samples.size() - quarter, samples.size(), member);
    report.add({name,
                last,
                unit,
                "at the beginning",
                first,
                {fmt::format("+ {:.0f}", allowed), [=] { return last <= first + allowed; }},
                {fmt::format("+ {:.0f}", allowed), [=] { return last <= first + allowed; }}});
  };
  add("soak memory", "MB", &Sample::megabytes, 5);
  add("soak threads", "", &Sample::threads, 8);  // pools grow to their limits by and by
  add("soak files", "", &Sample::files, 0.5);
  add("soak consumers", "", &Sample::consumers, 0.5);
  report.add({"soak p99", quantile(scene.board().latencies(), 0.99), "ms", "", 0, {}, {}});
  const std::size_t crashes = scene.look_around();
  report.add({"soak crashes",
              static_cast<double>(crashes),
              "",
              "",
              0,
              {"0", [crashes] { return crashes == 0; }},
              {"0", [crashes] { return crashes == 0; }}});
}

}  // namespace dmm::bench
