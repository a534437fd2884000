// The simulator: see usage().

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "dmm/testing/temporary_directory.h"
#include "tests/simulation/crew.h"
#include "tests/simulation/options.h"
#include "tests/simulation/shrink.h"

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

constexpr auto kShrinking = 20s;      // real time that is spent on a shorter history, each time
constexpr std::size_t kShownMax = 5;  // violations that are printed in full
constexpr auto kProgressEvery = 10s;

Wishes wishes_of(const Options& options) {
  Wishes wishes;
  wishes.meters = options.bug == Bug::cursor_first;
  wishes.lamps = options.bug == Bug::view_silent || options.bug == Bug::view_chatty ||
                 options.bug == Bug::snapshot_gap;
  wishes.valves = options.bug == Bug::forget_parked || options.bug == Bug::lose_parked;
  return wishes;
}

std::string lines(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& line : all) text += fmt::format("    {}\n", line);
  return text;
}

/// The first violation, with a bug of the promise that it breaks; null if there is none.
const Violation* first_of(const Verdict& verdict, const Options& options) {
  for (const Violation& one : verdict.violations) {
    if (options.bug == Bug::none || one.promise == broken_by(options.bug)) return &one;
  }
  return nullptr;
}

std::string describe(const Plan& plan, const Options& options, const Verdict& verdict) {
  const Violation& first = *first_of(verdict, options);
  std::string text;
  for (const Violation& one : verdict.violations) {
    text += fmt::format("  {}: {}\n", one.promise, one.text);
  }
  RunOptions again{.bug = options.bug};
  const Plan least = shrink(plan, again, first.promise, kShrinking);
  again.history = true;
  again.logs = options.logs;
  const Verdict shortest = simulate(least, again);
  text += fmt::format("  the shortest history that was found, {} of {} steps:\n{}",
                      least.steps.size(), plan.steps.size(), lines(shortest.history));
  for (const Violation& one : shortest.violations) {
    text += fmt::format("    {}: {}\n", one.promise, one.text);
  }
  return text;
}

Told work_on(std::uint64_t seed, const Options& options) {
  const Plan plan = make_plan(seed, wishes_of(options));
  const RunOptions run{.bug = options.bug, .history = options.history, .logs = options.logs};
  const Verdict verdict = simulate(plan, run);
  Told told{.seed = seed,
            .violated = first_of(verdict, options) != nullptr,
            .runs = verdict.runs,
            .switches = verdict.switches,
            .simulated_ms = std::chrono::duration_cast<milliseconds>(verdict.simulated).count(),
            .text = lines(verdict.history)};
  if (!told.violated) return told;
  if (options.history) {
    for (const Violation& one : verdict.violations) {
      told.text += fmt::format("  {}: {}\n", one.promise, one.text);
    }
  } else {
    told.text = describe(plan, options, verdict);
  }
  return told;
}

class Report final {
 public:
  explicit Report(const Options& options) : options_(options) {}

  /// False: that is enough.
  bool hear(const Told& told) {
    ++seeds_;
    runs_ += told.runs;
    switches_ += told.switches;
    simulated_ms_ += told.simulated_ms;
    if (options_.history || (told.violated && violations_ < kShownMax)) {
      fmt::print("seed {}:\n{}", told.seed, told.text);
    } else if (told.violated) {
      fmt::print("seed {} too\n", told.seed);
    }
    if (told.violated) {
      ++violations_;
      if (!options_.history) {
        const std::string bug =
            options_.bug == Bug::none ? "" : fmt::format(" --bug {}", to_string(options_.bug));
        fmt::print("  again: scripts/simulate --from {} --seeds 1{} --history\n", told.seed, bug);
      }
    }
    std::fflush(stdout);
    const auto now = std::chrono::steady_clock::now();
    if (now - said_ >= kProgressEvery) {
      said_ = now;
      fmt::print(stderr, "{} of {} seeds, {} violations\n", seeds_, options_.seeds, violations_);
    }
    return options_.bug == Bug::none || violations_ == 0;
  }

  int finish() const {
    const double took =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    fmt::print(
        "{:.1f} s, {:.1f} seeds a second; {:.0f} s were simulated, {:.0f} times real time; {} "
        "runs succeeded, {} switches\n",
        took, static_cast<double>(seeds_) / took, static_cast<double>(simulated_ms_) / 1000,
        static_cast<double>(simulated_ms_) / 1000 / took, runs_, switches_);
    fmt::print("{} seeds, {} violations\n", seeds_, violations_);
    if (options_.bug != Bug::none) return violations_ > 0 ? 0 : 1;
    return violations_ > 0 ? 1 : 0;
  }

 private:
  const Options options_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point said_ = began_;
  std::uint64_t seeds_ = 0;
  std::uint64_t violations_ = 0;
  std::uint64_t runs_ = 0;
  std::uint64_t switches_ = 0;
  std::int64_t simulated_ms_ = 0;
};

/// Snapshots of views are synced, which costs nothing where files are in memory.
void keep_files_in(const std::filesystem::path& directory) {
  ::setenv("TMPDIR", directory.c_str(), 1);
}

int run_all(const Options& options) {
  constexpr const char* kMemory = "/dev/shm";
  if (std::getenv("TMPDIR") == nullptr && ::access(kMemory, W_OK) == 0) keep_files_in(kMemory);
  // What a process leaves that is ended goes with it.
  const testing::TemporaryDirectory files("dmm-simulate");
  keep_files_in(files.path());
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  const Crew crew{.from = options.from,
                  .seeds = options.seeds,
                  .jobs = options.jobs > 0 ? options.jobs : cores};
  Report report(options);
  run_crew(
      crew, [&](std::uint64_t seed) { return work_on(seed, options); },
      [&](const Told& told) { return report.hear(told); });
  return report.finish();
}

}  // namespace

}  // namespace dmm::simulation

int main(int argc, char** argv) {
  using namespace dmm::simulation;
  try {
    const Options options = parse_options(argc, argv);
    if (options.help) {
      fmt::print("{}", usage());
      return 0;
    }
    return run_all(options);
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "dmm_simulate: {}\n\n{}", error.what(), usage());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "dmm_simulate: {}\n", error.what());
    return 1;
  }
}
