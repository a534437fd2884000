#include "tests/nemesis/verdict.h"

#include "dmm/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "tests/bench/support/statistics.h"

namespace dmm::nemesis {

namespace {

constexpr double kWorkerGoal = 5;   // seconds from a worker's fault until its work goes on
constexpr double kServerGoal = 15;  // from the loss of a node, or the return of the only server
/// Of what a run of ten minutes has to show, by the second.
constexpr double kKillsPerSecond = 203.0 / 600;
constexpr double kKillsOfChance = 3;  // so many fewer may be drawn in a short run
constexpr double kServerFaultsPerSecond = 1.0 / 120;
constexpr double kOthersPerSecond = 1.0 / 120;
/// On a cluster there is less time for workers: nodes fall, too, and each is waited for.
constexpr double kShareOfCluster = 0.3;

double number(std::size_t count) {
  return static_cast<double>(count);
}

std::string limit_of(const Figure& figure) {
  if (figure.at_least) return fmt::format(">= {:g}", *figure.at_least);
  if (figure.at_most) return fmt::format("<= {:g}", *figure.at_most);
  return "";
}

std::string value_of(const Figure& figure) {
  return figure.unit.empty() ? fmt::format("{:.0f}", figure.value)
                             : fmt::format("{:.2f}", figure.value);
}

/// The seconds that pass when a share of the volleys has been recovered from; 0 if there were none.
double share_of(const std::vector<double>& seconds, double share) {
  return seconds.empty() ? 0 : bench::quantile(seconds, share);
}

}  // namespace

Verdict::Verdict(const Options& options, const Outcome& outcome) : options_(options) {
  count(outcome);
  check(outcome);
  measure(outcome);
  last_line_ = fmt::format(
      "{} notifies, {} worker kills, {} server faults: {} lost, {} overlaps, {} stale writes "
      "accepted, back to work within {:.1f} s",
      outcome.history.notified.size(), outcome.deeds.worker_kills, outcome.deeds.server_faults,
      lost_, overlaps_, stale_, back_to_work_);
}

void Verdict::count(const Outcome& outcome) {
  const History& history = outcome.history;
  const Deeds& deeds = outcome.deeds;
  const double seconds = options_.seconds;
  const double on_workers = seconds * (options_.cluster ? kShareOfCluster : 1);
  const auto succeeded = std::ranges::count_if(history.runs, &Run::succeeded);
  figures_.push_back({"notifies acknowledged", number(history.notified.size()), "",
                      number(options_.notifies_min)});
  figures_.push_back({"runs", number(history.runs.size()), ""});
  // Coalescing leaves at least one run of each identity every few seconds.
  figures_.push_back({"runs that succeeded", static_cast<double>(succeeded), "",
                      options_.identities * std::max(1.0, seconds / 10)});
  figures_.push_back({"cache entries seen", number(history.entries.size()), "",
                      static_cast<double>(options_.identities)});
  figures_.push_back({"worker kills", number(deeds.worker_kills), "",
                      std::max(1.0, std::floor(on_workers * kKillsPerSecond) - kKillsOfChance)});
  const double few = std::floor(on_workers * kOthersPerSecond);
  figures_.push_back({"workers stopped", number(deeds.worker_stops), "", few});
  figures_.push_back({"workers ended by SIGTERM", number(deeds.worker_ends), ""});
  figures_.push_back({"paths of workers in trouble", number(deeds.worker_cuts), "", few});
  figures_.push_back({"paths of notifiers in trouble", number(deeds.notifier_cuts), ""});
  figures_.push_back({"server faults", number(deeds.server_faults), "",
                      std::floor(seconds * kServerFaultsPerSecond)});
  figures_.push_back({"changes the world refused", number(outcome.world_refused), ""});
  figures_.push_back({"readers on the work stream",
                      number(outcome.readers),
                      "",
                      {},
                      // A worker that was killed leaves one for half a minute.
                      number(kWorkers) + 2 * kKillsPerSecond * 30 + 10});
}

void Verdict::check(const Outcome& outcome) {
  const auto add = [&](std::string name, const Findings& found) {
    for (const std::string& example : found.examples) {
      examples_.push_back(fmt::format("{}: {}", name, example));
    }
    figures_.push_back({std::move(name), number(found.count), "", {}, 0});
    return found.count;
  };
  lost_ = add("lost", find_lost(outcome.history));
  overlaps_ = add("overlaps", find_overlaps(outcome.history));
  stale_ = add("stale writes accepted", find_stale_writes(outcome.history));
  add("runs begun without the lease", find_zombies(outcome.history, limits::concurrency));
  add("entries behind at the end", find_behind(outcome.history));
  add("ended by themselves", {outcome.surprises.size(), outcome.surprises});
  figures_.push_back({"world set to older news", number(outcome.world_went_back), "", {}, 0});
  figures_.push_back(
      {"tokens left to be done", number(outcome.tokens_left.outstanding), "", {}, 0});
  figures_.push_back({"tokens left that are done", number(outcome.tokens_left.done), ""});
  figures_.push_back({"losses of history seen", number(outcome.history_losses), "", {}, 0});
  figures_.push_back({"entries not to be read", number(outcome.strange_entries), "", {}, 0});
}

void Verdict::measure(const Outcome& outcome) {
  const std::vector<Nanoseconds> times = recoveries(outcome.history);
  std::vector<double> workers;
  std::vector<double> servers;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const Volley& volley = outcome.history.volleys[i];
    if (volley.slow) continue;
    (volley.server ? servers : workers).push_back(static_cast<double>(times[i]) / kSecond);
  }
  back_to_work_ = share_of(workers, 1);
  figures_.push_back({"volleys on workers", number(workers.size()), "", 1});
  figures_.push_back({"back to work after workers p50", share_of(workers, 0.5), "s"});
  figures_.push_back({"back to work after workers p99", share_of(workers, 0.99), "s"});
  // Of three nodes one may fall just while a lane is taken over.
  const double goal = options_.cluster ? kServerGoal : kWorkerGoal;
  figures_.push_back({"back to work after workers max", back_to_work_, "s", {}, goal});
  figures_.push_back({"back to work after server max", share_of(servers, 1), "s", {}, kServerGoal});
  figures_.push_back({"settled after healing", outcome.settled_seconds, "s"});
}

bool Verdict::good() const {
  switch (options_.bug) {
    case Bug::none:
      return std::ranges::all_of(figures_, &Figure::kept);
    case Bug::drop_news:
      return lost_ > 0;
    case Bug::no_lease:
      return overlaps_ > 0;
    case Bug::no_fence:
      return stale_ > 0;
  }
  return false;
}

std::string Verdict::text() const {
  std::string text;
  // First, for those who see only the beginning of what a failed test printed.
  for (const Figure& figure : figures_) {
    if (figure.kept()) continue;
    text += fmt::format("BROKEN: {} {} {}, promised {}\n", figure.name, value_of(figure),
                        figure.unit, limit_of(figure));
  }
  text += fmt::format("{:<34} {:>10} {:<3} {:<12}\n", "figure", "value", "", "promised");
  for (const Figure& figure : figures_) {
    std::string line = fmt::format("{:<34} {:>10} {:<3} {:<12} {}", figure.name, value_of(figure),
                                   figure.unit, limit_of(figure), figure.kept() ? "" : "BROKEN");
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  if (!examples_.empty()) text += "\nFor example:\n";
  for (const std::string& example : examples_) text += "  " + example + "\n";
  if (options_.bug != Bug::none) {
    text +=
        fmt::format("\nThe bug {} was {}found.\n", to_string(options_.bug), good() ? "" : "NOT ");
  }
  return text + "\n" + last_line_ + "\n";
}

void Verdict::append_json(const std::string& path) const {
  std::ofstream out(path, std::ios::app);
  for (const Figure& figure : figures_) {
    nlohmann::ordered_json line{{"figure", "nemesis " + figure.name},
                                {"value", figure.value},
                                {"unit", figure.unit},
                                {"against", limit_of(figure)},
                                {"ratio", nullptr}};
    const double limit = figure.at_most.value_or(figure.at_least.value_or(0));
    if (limit > 0) line["ratio"] = figure.value / limit;
    out << line.dump() << '\n';
  }
  out.flush();
  if (!out) throw std::runtime_error("cannot write " + path);
}

}  // namespace dmm::nemesis
