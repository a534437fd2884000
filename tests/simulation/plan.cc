#include "tests/simulation/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>

namespace dmm::simulation {

namespace {

using namespace std::chrono_literals;

/// Draws without std's distributions, which differ from library to library.
class Dice final {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(random_() % end); }
  std::uint32_t between(std::uint32_t first, std::uint32_t last) {
    return first + below(last - first + 1);
  }
  bool one_of(std::uint32_t count) { return below(count) == 0; }
  milliseconds time(milliseconds first, milliseconds last) {
    const auto length = static_cast<std::uint64_t>((last - first).count() + 1);
    return first + milliseconds(static_cast<milliseconds::rep>(random_() % length));
  }

 private:
  std::mt19937_64 random_;
};

/// So many workers may end without a word that no identity is parked for it, but for those that
/// crash them.
constexpr int kCrashesMax = 4;

/// What came later is drawn apart, so that what a seed was before stays.
constexpr std::uint64_t kLater = 0x9E3779B97F4A7C15;
constexpr std::uint64_t kLatest = 0xD1B54A32D192ED03;

/// What users do, in bursts as well as one by one.
void add_users(Plan& plan, Dice& dice) {
  const std::uint32_t count = dice.between(30, 90);
  for (std::uint32_t i = 0; i < count; ++i) {
    Step step{.at = dice.time(0ms, plan.storm)};
    const std::uint32_t kind = dice.below(10);
    if (kind < 3 && plan.meters > 0) {
      step.deed = Deed::report;
      step.what = dice.below(plan.meters);
    } else if (kind < 6 && plan.lamps > 0) {
      step.deed = dice.one_of(5) ? Deed::unwant : Deed::want;
      step.what = dice.below(plan.lamps);
    } else {
      step.what = dice.below(plan.jobs);
    }
    plan.steps.push_back(step);
    for (std::uint32_t more = dice.one_of(4) ? dice.between(1, 5) : 0; more > 0; --more) {
      step.at += dice.time(0ms, 40ms);
      plan.steps.push_back(step);
    }
  }
}

Step worker_fault(const Plan& plan, Dice& dice, int& crashes) {
  static constexpr std::array kFaults = {
      Deed::crash,  Deed::crash_at, Deed::crash_at, Deed::stop,  Deed::pause, Deed::partition,
      Deed::refuse, Deed::in_doubt, Deed::drop,     Deed::delay, Deed::jump};
  Step step{.at = dice.time(200ms, plan.storm), .who = dice.below(plan.workers)};
  step.deed = kFaults[dice.below(static_cast<std::uint32_t>(kFaults.size()))];
  step.time = dice.one_of(2) ? dice.time(50ms, 900ms) : dice.time(1s, 6s);
  step.what = dice.between(1, 30);
  if (step.deed == Deed::crash || step.deed == Deed::crash_at) {
    if (++crashes > kCrashesMax) step.deed = Deed::partition;
  }
  if (step.deed == Deed::crash_at) {
    step.point = crash_points()[dice.below(static_cast<std::uint32_t>(crash_points().size()))];
    step.what = dice.between(1, 5);
  }
  if (step.deed == Deed::jump) step.time = dice.time(1s, 60min);
  if (step.deed == Deed::delay) step.time = dice.time(10ms, 1500ms);
  return step;
}

void add_faults(Plan& plan, Dice& dice, const Wishes& wishes) {
  int crashes = 0;
  for (std::uint32_t left = dice.between(2, 9); left > 0; --left) {
    plan.steps.push_back(worker_fault(plan, dice, crashes));
  }
  for (std::uint32_t left = dice.below(3); left > 0; --left) {
    plan.steps.push_back({.at = dice.time(200ms, plan.storm), .deed = Deed::restart});
  }
  if (!wishes.losses || !dice.one_of(4)) return;
  static constexpr std::array kLosses = {
      Deed::lose_work,      Deed::lose_work,       Deed::lose_reports,   Deed::lose_cache,
      Deed::recreate_work,  Deed::lose_status,     Deed::lose_leases,    Deed::recreate_reports,
      Deed::recreate_cache, Deed::recreate_status, Deed::recreate_leases};
  plan.steps.push_back({.at = dice.time(200ms, plan.storm),
                        .deed = kLosses[dice.below(static_cast<std::uint32_t>(kLosses.size()))],
                        .what = dice.between(1, 5)});
}

milliseconds some_while(Dice& dice) {
  return dice.time(500ms, 5s);
}

/// Valves that are turned, spoilt, mended and tried again.
void add_valves(Plan& plan, Dice& dice) {
  const auto at_any_time = [&] { return dice.time(0ms, plan.storm); };
  for (std::uint32_t left = dice.between(8, 30); left > 0; --left) {
    plan.steps.push_back(
        {.at = at_any_time(), .deed = Deed::turn, .what = dice.below(plan.valves)});
  }
  for (std::uint32_t left = dice.between(1, 4); left > 0; --left) {
    Step step{.at = at_any_time(), .deed = Deed::spoil, .what = dice.below(plan.valves)};
    step.who = dice.between(1, 2);
    if (!dice.one_of(3)) step.time = some_while(dice);
    plan.steps.push_back(step);
  }
  // Each end of a worker costs the fleet seconds: one of them is enough for a plan.
  if (dice.one_of(6)) {
    plan.steps.push_back({.at = at_any_time(),
                          .deed = Deed::spoil,
                          .who = static_cast<std::uint32_t>(Nature::crashes),
                          .what = dice.below(plan.valves)});
  }
  for (std::uint32_t left = dice.below(4); left > 0; --left) {
    plan.steps.push_back({.at = at_any_time(), .deed = Deed::retry});
  }
}

/// Pauses and policies.
void add_steering(Plan& plan, Dice& dice) {
  for (std::uint32_t left = dice.below(4); left > 0; --left) {
    static constexpr std::array kScopes = {"all", "job", "job", "valve", "job.0", "job.1"};
    plan.steps.push_back({.at = dice.time(0ms, plan.storm),
                          .deed = Deed::hold,
                          .time = some_while(dice),
                          .point = kScopes[dice.below(kScopes.size())]});
  }
  for (std::uint32_t left = dice.below(3); left > 0; --left) {
    Step step{.deed = Deed::limit, .who = dice.below(3), .what = dice.between(1, 3)};
    step.point = dice.one_of(2) ? "job" : "valve";
    // What holds all the time holds from the beginning.
    const bool always = dice.one_of(2);
    step.at = always ? 0ms : dice.time(0ms, plan.storm);
    step.time = always ? plan.storm : some_while(dice);
    plan.steps.push_back(step);
  }
}

void add_disks(Plan& plan, Dice& dice) {
  for (std::uint32_t left = dice.below(4); left > 0; --left) {
    plan.steps.push_back({.at = dice.time(0ms, plan.storm),
                          .deed = Deed::spoil_disk,
                          .who = dice.below(plan.workers),
                          .what = dice.below(1'000'000)});
  }
}

/// Where a worker rarely is, so that few would be killed there.
void add_rare_crash(Plan& plan, Dice& dice) {
  const auto crashes = std::ranges::count_if(plan.steps, [](const Step& step) {
    return step.deed == Deed::crash || step.deed == Deed::crash_at;
  });
  if (crashes >= kCrashesMax || !dice.one_of(3)) return;
  static constexpr std::array kRare = {"compared the caches", "stores a cursor",
                                       "rewrote an entry",    "parks an identity",
                                       "put a run off",       "approves removals"};
  plan.steps.push_back({.at = dice.time(1ms, plan.storm),
                        .deed = Deed::crash_at,
                        .who = dice.below(plan.workers),
                        .what = 1,
                        .time = some_while(dice),
                        .point = kRare[dice.below(kRare.size())]});
}

}  // namespace

const std::vector<std::string>& crash_points() {
  static const std::vector<std::string> points = {
      "a run returned",      "stored an entry",   "deleted a token", "rewrote an entry",
      "took a lane",         "begins with lanes", "gives a lane",    "took a lease",
      "gives a lease",       "handled a report",  "stores a cursor", "told a row",
      "compared the caches", "parks an identity", "put a run off",   "approves removals"};
  return points;
}

Plan make_plan(std::uint64_t seed, const Wishes& wishes) {
  Dice dice(seed);
  Plan plan;
  plan.seed = seed;
  plan.workers = dice.between(2, 4);
  plan.jobs = dice.between(2, 8);
  plan.meters = wishes.meters || dice.one_of(2) ? dice.between(1, 4) : 0;
  plan.lamps = wishes.lamps || dice.one_of(2) ? dice.between(1, 6) : 0;
  plan.storm = dice.time(6s, 15s);
  add_users(plan, dice);
  add_faults(plan, dice, wishes);
  Dice later(seed ^ kLater);
  plan.valves = wishes.valves || later.one_of(2) ? later.between(1, 4) : 0;
  plan.disks = later.one_of(2);
  plan.schedule = later.one_of(4);
  if (plan.valves > 0) add_valves(plan, later);
  add_steering(plan, later);
  if (plan.lamps > 0 && plan.disks) add_disks(plan, later);
  Dice latest(seed ^ kLatest);
  plan.trials = latest.one_of(4) || wishes.trials;
  if (plan.trials) plan.jobs = std::max(plan.jobs, 4u);
  if (latest.one_of(3) || wishes.holds) plan.removals_free = latest.between(1, 3);
  add_rare_crash(plan, latest);
  std::ranges::stable_sort(plan.steps, {}, &Step::at);
  return plan;
}

std::string_view name_of(Nature nature) noexcept {
  switch (nature) {
    case Nature::good:
      return "is good";
    case Nature::parks:
      return "parks";
    case Nature::fails:
      return "fails";
    case Nature::crashes:
      return "crashes its workers";
    case Nature::hangs:
      return "hangs";
  }
  return {};
}

std::string_view name_of(Setting setting) noexcept {
  switch (setting) {
    case Setting::rate:
      return "rate";
    case Setting::concurrency:
      return "concurrency";
    case Setting::resync:
      return "resync_s";
    case Setting::backoff:
      return "backoff_first_s";
  }
  return {};
}

std::string to_string(const Step& step) {
  const auto time = step.time.count();
  switch (step.deed) {
    case Deed::notify:
      return fmt::format("notify job {}", step.what);
    case Deed::report:
      return fmt::format("meter {} reports", step.what);
    case Deed::want:
      return fmt::format("lamp {} is wanted otherwise", step.what);
    case Deed::unwant:
      return fmt::format("lamp {} is not wanted", step.what);
    case Deed::turn:
      return fmt::format("notify valve {}", step.what);
    case Deed::spoil:
      return fmt::format("valve {} {}{}", step.what, name_of(static_cast<Nature>(step.who)),
                         time > 0 ? fmt::format(" for {} ms", time) : "");
    case Deed::retry:
      return "what is parked is tried again";
    case Deed::hold:
      return fmt::format("{} is paused for {} ms", step.point, time);
    case Deed::limit:
      return fmt::format("the {} of {} is {} for {} ms", name_of(static_cast<Setting>(step.who)),
                         step.point, step.what, time);
    case Deed::crash:
      return fmt::format("worker {} is killed; another begins {} ms later", step.who, time);
    case Deed::crash_at:
      return fmt::format("worker {} will be killed at its {}. \"{}\"; another begins {} ms later",
                         step.who, step.what, step.point, time);
    case Deed::stop:
      return fmt::format("worker {} is asked to end; another begins {} ms later", step.who, time);
    case Deed::pause:
      return fmt::format("worker {} is stopped for {} ms", step.who, time);
    case Deed::partition:
      return fmt::format("worker {} is cut off for {} ms", step.who, time);
    case Deed::refuse:
      return fmt::format("{} calls of worker {} fail", step.what, step.who);
    case Deed::in_doubt:
      return fmt::format("{} calls of worker {} are done and look failed", step.what, step.who);
    case Deed::drop:
      return fmt::format("{} calls of worker {} are lost, or their answers", step.what, step.who);
    case Deed::delay:
      return fmt::format("{} calls of worker {} take up to {} ms longer", step.what, step.who,
                         time);
    case Deed::jump:
      return fmt::format("the clock of worker {} goes {} by {} s", step.who,
                         step.what % 2 == 1 ? "back" : "forward", time / 1000);
    case Deed::spoil_disk:
      return fmt::format("the disk of worker {} is damaged ({})", step.who, step.what);
    case Deed::restart:
      return "the server restarts";
    case Deed::lose_work:
      return fmt::format("the server restarts without the newest {} of the work", step.what);
    case Deed::lose_reports:
      return fmt::format("the server restarts without the newest {} of the reports", step.what);
    case Deed::lose_cache:
      return fmt::format("the server restarts without the newest {} of the cache", step.what);
    case Deed::lose_status:
      return fmt::format("the server restarts without the newest {} of the status", step.what);
    case Deed::lose_leases:
      return fmt::format("the server restarts without the newest {} of the leases", step.what);
    case Deed::recreate_work:
      return "the work stream is lost, and created again";
    case Deed::recreate_reports:
      return "the report stream is lost, and created again";
    case Deed::recreate_cache:
      return "the cache is lost, and created again";
    case Deed::recreate_status:
      return "the status is lost, and created again";
    case Deed::recreate_leases:
      return "the lease stream is lost, and created again";
  }
  return {};
}

}  // namespace dmm::simulation
