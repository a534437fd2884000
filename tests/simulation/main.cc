// The simulator: see usage().

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <map>
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
constexpr std::uint64_t kTwiceEvery = 50;  // of so many seeds one is simulated twice
/// From so many seeds on each crash point has to be reached.
constexpr std::uint64_t kEachPoint = 500;

/// What a plan needs for a bug to do harm.
Wishes wishes_of(const Options& options) {
  const auto is_one_of = [&](std::initializer_list<Bug> bugs) {
    return std::ranges::count(bugs, options.bug) > 0;
  };
  Wishes wishes;
  wishes.meters = options.bug == Bug::cursor_first;
  wishes.lamps = is_one_of({Bug::view_silent, Bug::view_chatty, Bug::snapshot_gap, Bug::half_loaded,
                            Bug::remove_freely, Bug::ignore_losses, Bug::round_numbers});
  wishes.valves = is_one_of({Bug::forget_parked, Bug::lose_parked, Bug::forget_crashes});
  wishes.trials = is_one_of({Bug::forget_attempts, Bug::hasty, Bug::backoff_first,
                             Bug::shared_backoff, Bug::ignore_losses});
  wishes.holds = options.bug == Bug::remove_freely;
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
  Verdict verdict = simulate(plan, run);
  const bool twice = options.bug == Bug::unseeded ||
                     (options.bug == Bug::none && seed % kTwiceEvery == 0 && !options.history);
  const bool differs = twice && simulate(plan, run).digest != verdict.digest;
  if (differs) {
    verdict.violations = {{"deterministic", "the same seed was another history"}};
  }
  Told told{.seed = seed,
            .violated = first_of(verdict, options) != nullptr,
            .runs = verdict.runs,
            .switches = verdict.switches,
            .simulated_ms = std::chrono::duration_cast<milliseconds>(verdict.simulated).count(),
            .text = lines(verdict.history),
            .points = std::move(verdict.points)};
  if (!told.violated) return told;
  if (options.history || differs) {
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
    for (const auto& [name, reached] : told.points) {
      points_[name].times += reached.times;
      points_[name].kills += reached.kills;
    }
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
    const bool missed = say_points();
    fmt::print("{} seeds, {} violations\n", seeds_, violations_);
    if (options_.bug != Bug::none) return violations_ > 0 ? 0 : 1;
    return violations_ > 0 || missed ? 1 : 0;
  }

 private:
  /// True if a crash point was missed, or is not known here.
  bool say_points() const {
    std::uint64_t least = ~std::uint64_t{0};
    std::size_t deadly = 0;
    bool missed = false;
    for (const std::string& name : crash_points()) {
      const auto found = points_.find(name);
      const Reached reached = found == points_.end() ? Reached() : found->second;
      least = std::min(least, reached.times);
      deadly += reached.kills > 0 ? 1 : 0;
      const bool never = reached.times == 0 && seeds_ >= kEachPoint;
      missed = missed || never;
      if (!options_.verbose && !never) continue;
      fmt::print("  \"{}\" was reached {} times and killed {} workers\n", name, reached.times,
                 reached.kills);
    }
    for (const auto& [name, reached] : points_) {
      if (std::ranges::count(crash_points(), name) > 0) continue;
      missed = true;
      fmt::print("  \"{}\" is a crash point that no plan names\n", name);
    }
    fmt::print("{} crash points, each reached {} times or more; {} of them killed workers\n",
               crash_points().size(), least, deadly);
    return missed;
  }

  const Options options_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point said_ = began_;
  std::uint64_t seeds_ = 0;
  std::uint64_t violations_ = 0;
  std::uint64_t runs_ = 0;
  std::uint64_t switches_ = 0;
  std::int64_t simulated_ms_ = 0;
  std::map<std::string, Reached> points_;
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
