#include "dmm/internal/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "dmm/error.h"
#include "dmm/internal/control_store.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

namespace {

using std::chrono::milliseconds;

constexpr double kYear_s = 366.0 * 86'400;

/// Where a setting lies in the options.
struct Place {
  PolicySetting setting;
  double (*get)(const WorkOptions&);
  void (*put)(WorkOptions&, double);
};

template <milliseconds WorkOptions::*member>
Place seconds(std::string name, double least, std::string help) {
  return {{std::move(name), least, kYear_s, false, std::move(help)},
          [](const WorkOptions& options) {
            return std::chrono::duration<double>(options.*member).count();
          },
          [](WorkOptions& options, double value) {
            options.*member =
                std::chrono::round<milliseconds>(std::chrono::duration<double>(value));
          }};
}

template <auto member>
Place number(std::string name, double least, double most, std::string help, double above_zero = 0) {
  using Number = std::remove_cvref_t<decltype(std::declval<WorkOptions>().*member)>;
  return {{std::move(name), least, most, std::is_integral_v<Number>, std::move(help), above_zero},
          [](const WorkOptions& options) { return static_cast<double>(options.*member); },
          [](WorkOptions& options, double value) { options.*member = static_cast<Number>(value); }};
}

const std::vector<Place>& places() {
  using O = WorkOptions;
  static const std::vector<Place> kPlaces{
      number<&O::concurrency>("concurrency", 1, 1'024, "runs at a time in a worker"),
      seconds<&O::timeout>("timeout_s", 0.001, "how long a run may take"),
      seconds<&O::backoff_first>("backoff_first_s", 0.001, "longest wait after the first failure"),
      seconds<&O::backoff_max>("backoff_max_s", 0.001, "longest wait after many failures"),
      number<&O::attempts_max>("attempts_max", 0, 1'000'000,
                               "failed attempts before parking; 0: never"),
      seconds<&O::offline_retry>("offline_retry_s", 0.001,
                                 "longest wait for the report of a device"),
      number<&O::rate>("rate", 0, 1'000'000, "runs begun a second; 0: no limit",
                       limits::rate_least),
      seconds<&O::identity_interval>("identity_interval_s", 0,
                                     "least time between two runs of an identity"),
      seconds<&O::resync>("resync_s", 0, "every identity is run again this often; 0: never"),
      number<&O::pause_at_failing>("pause_at_failing_percent", 0, 100,
                                   "pause when more first runs of news fail; 0: never"),
  };
  return kPlaces;
}

std::string names() {
  std::string names;
  for (const Place& place : places()) {
    if (!names.empty()) names += ", ";
    names += place.setting.name;
  }
  return names;
}

const Place& place_of(std::string_view name) {
  for (const Place& place : places()) {
    if (place.setting.name == name) return place;
  }
  throw Error(code::bad_option, fmt::format("there is no setting \"{}\"; there are {}",
                                            printable(name, 100), names()));
}

void check(const PolicySetting& setting, double value) {
  if (!std::isfinite(value) || value < setting.least || value > setting.most ||
      (setting.whole && value != std::floor(value))) {
    throw Error(code::bad_option, fmt::format("{} is {}, not a {} from {} to {}", setting.name,
                                              value, setting.whole ? "whole number" : "number",
                                              setting.least, setting.most));
  }
  if (value > 0 && value < setting.above_zero) {
    throw Error(code::bad_option, fmt::format("{} is {}, neither 0 nor at least {}", setting.name,
                                              value, setting.above_zero));
  }
}

}  // namespace

void check(const Policy& policy) {
  for (const auto& [name, value] : policy) check(place_of(name).setting, value);
}

WorkOptions lay_over(const Policy& policy, WorkOptions options) {
  check(policy);
  for (const auto& [name, value] : policy) place_of(name).put(options, value);
  options.backoff_first = std::min(options.backoff_first, options.backoff_max);
  check(options);
  return options;
}

InForce in_force(std::string_view text, const WorkOptions& declared, const WorkOptions& last) {
  if (text.empty()) return {declared, {}};
  try {
    return {lay_over(parse_policy(text), declared), {}};
  } catch (const Error& error) {
    return {last, error.what()};
  }
}

Policy policy_of(const WorkOptions& options) {
  Policy policy;
  for (const Place& place : places()) policy.emplace(place.setting.name, place.get(options));
  return policy;
}

void check(const WorkOptions& options) {
  for (const Place& place : places()) check(place.setting, place.get(options));
  require(options.backoff_max >= options.backoff_first, code::bad_option,
          "backoff_max is less than backoff_first");
  require(options.grace.count() >= 0, code::bad_option, "the grace time is negative");
}

}  // namespace dmm::internal

namespace dmm {

const std::vector<PolicySetting>& policy_settings() {
  static const std::vector<PolicySetting> kSettings = [] {
    std::vector<PolicySetting> settings;
    for (const auto& place : internal::places()) settings.push_back(place.setting);
    return settings;
  }();
  return kSettings;
}

}  // namespace dmm
