#include "dmm/cli/selection.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <tuple>

namespace dmm::cli {

namespace {

constexpr std::array kPhases = {Phase::settled, Phase::waiting, Phase::failing, Phase::offline,
                                Phase::parked};

std::vector<std::string> phase_names() {
  std::vector<std::string> names;
  for (const Phase phase : kPhases) names.emplace_back(to_string(phase));
  return names;
}

// What needs somebody's care comes first.
int urgency(Phase phase) {
  constexpr std::array kByUrgency = {Phase::parked, Phase::failing, Phase::offline, Phase::waiting,
                                     Phase::settled};
  return static_cast<int>(std::ranges::find(kByUrgency, phase) - kByUrgency.begin());
}

template <class Key>
void sort_by(std::vector<Matter>& matters, Key key) {
  std::ranges::stable_sort(matters, {}, key);
}

}  // namespace

void add_selection(CLI::App& verb, SelectionOptions& options, bool sorts) {
  verb.add_option("--phase", options.phases, "Only in these phases")
      ->check(CLI::IsMember(phase_names()))
      ->delimiter(',')
      ->type_name("PHASE");
  verb.add_option("--code", options.code, "Only with this code")->type_name("DMM-0303");
  verb.add_option("--error", options.error, "Only with an error like this, in any case")
      ->type_name("REGEX");
  add_older_than(verb, options.older_than_s);
  if (!sorts) return;
  verb.add_option("--sort", options.sort, "Order: longest, most tries or gravest first")
      ->check(CLI::IsMember({"id", "age", "tries", "phase"}))
      ->capture_default_str()
      ->type_name("KEY");
}

void add_older_than(CLI::App& verb, double& seconds) {
  verb.add_option("--older-than", seconds, "Only those that stand so for longer")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"s", 1}, {"m", 60}, {"h", 3'600}, {"d", 86'400}},
          CLI::AsNumberWithUnit::CASE_SENSITIVE, "SECONDS"))
      ->check(CLI::Range(0.0, 1e9))
      ->type_name("SECONDS|5m|2h|1d");
}

std::optional<Time> since(const Matter& matter) {
  switch (matter.phase) {
    case Phase::settled:
      return matter.stored_at;
    case Phase::waiting:
      return matter.notified_at;
    case Phase::failing:
    case Phase::offline:
    case Phase::parked:
      return matter.failed_at;
  }
  return std::nullopt;
}

Selection::Selection(const SelectionOptions& options) : options_(options), error_(options.error) {}

bool Selection::takes(const Matter& matter, Time now) const {
  if (!options_.phases.empty() &&
      std::ranges::find(options_.phases, to_string(matter.phase)) == options_.phases.end()) {
    return false;
  }
  if (!options_.code.empty() && options_.code != matter.error_code) return false;
  if (options_.older_than_s > 0) {
    const auto at = since(matter);
    if (!at || now - *at < std::chrono::duration<double>(options_.older_than_s)) return false;
  }
  return error_.matches(matter.error);
}

void Selection::apply(std::vector<Matter>& matters) const {
  const Time now = std::chrono::system_clock::now();
  std::erase_if(matters, [&](const Matter& matter) { return !takes(matter, now); });
  if (options_.sort == "age") {
    sort_by(matters, [&](const Matter& matter) { return since(matter).value_or(now); });
  } else if (options_.sort == "tries") {
    sort_by(matters, [](const Matter& matter) { return -matter.attempts; });
  } else if (options_.sort == "phase") {
    sort_by(matters, [&](const Matter& matter) {
      return std::tuple(urgency(matter.phase), since(matter).value_or(now));
    });
  }
}

}  // namespace dmm::cli
