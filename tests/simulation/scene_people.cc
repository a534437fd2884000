// The part of the scene that are those who look after it: they pause, set policies, mend, try again
// what is parked, and approve.

#include <fmt/format.h>

#include <algorithm>

#include "dmm/identity.h"
#include "tests/simulation/scene.h"

namespace dmm::simulation {

using namespace std::chrono_literals;

namespace {

PauseScope scope_called(const std::string& name) {
  if (name == "all") return {};
  if (const auto identity = parse_key(name)) return {identity->type, identity->id};
  return {name, {}};
}

}  // namespace

/// time   0: it is not mended before the calm.
void Scene::spoil(std::uint32_t valve, Nature nature, milliseconds time) {
  note(fmt::format("valve {} {} from here on", valve, name_of(nature)));
  valves_.at(valve) = {nature, time == 0ms};
  if (time > 0ms) {
    later(time, [this, valve] {
      if (!valves_[valve].for_good) mend(valve);
    });
  }
}

void Scene::mend(std::uint32_t valve) {
  note(fmt::format("valve {} is mended", valve));
  valves_.at(valve) = Valve();
}

void Scene::mend_all(bool only_crashes) {
  for (std::uint32_t valve = 0; valve < plan_.valves; ++valve) {
    const Nature nature = valves_[valve].nature;
    if (nature == Nature::good || (only_crashes && nature != Nature::crashes)) continue;
    mend(valve);
  }
}

/// As `dmm parked retry`, but for what could not succeed.
void Scene::retry() {
  try {
    for (const Matter& matter : hand_->inspect().list("")) {
      if (matter.phase != Phase::parked || doomed(matter.identity)) continue;
      const std::string key = key_of(matter.identity);
      const Time begin = now();
      hand_->poke(matter.identity);
      journal_.said.push_back({.key = key,
                               .news = known_[key].news,
                               .deleted = false,
                               .begin = begin,
                               .acknowledged = now()});
      note(fmt::format("{} is parked and tried again", key));
    }
  } catch (const Error& error) {
    note(error.what());
  }
}

void Scene::hold(const std::string& scope, milliseconds time) {
  hand_->control().pause(scope_called(scope), "it has to wait", "somebody");
  journal_.pausings.push_back({.scope = scope, .from = now()});
  note(fmt::format("{} is paused", scope));
  later(time, [this, scope] { resume(scope); });
}

void Scene::resume(const std::string& scope) {
  for (Pausing& one : journal_.pausings) {
    if (one.scope == scope) one.to = std::min(one.to, now());
  }
  hand_->control().resume(scope_called(scope));
  note(fmt::format("{} is resumed", scope));
}

void Scene::resume_all() {
  for (const Pause& pause : hand_->control().pauses()) {
    const PauseScope& scope = pause.scope;
    resume(scope.type.empty() ? "all" : scope.id ? key_of({scope.type, *scope.id}) : scope.type);
  }
}

/// value   0: the setting is as the program has it.
void Scene::limit(const std::string& type, Setting setting, double value) {
  const std::string name(name_of(setting));
  note(fmt::format("the {} of {} is {}", name, type, value));
  journal_.limits.push_back({.type = type, .setting = name, .value = value, .at = now()});
  hand_->control().change_policy(type, [&](Policy& policy) {
    policy.erase(name);
    if (value > 0) policy[name] = value;
  });
}

void Scene::lift_limits() {
  for (const std::string type : {"job", "valve"}) {
    for (const Setting one :
         {Setting::rate, Setting::concurrency, Setting::resync, Setting::backoff}) {
      limit(type, one, 0);
    }
  }
}

/// Behind a loss of history removals wait for a person.
void Scene::approve_removals() {
  try {
    const ViewInfo info = hand_->views().find("lamps");
    if (info.held == 0) return;
    journal_.approvals.push_back(now());
    note(fmt::format("{} removals are approved", info.held));
    hand_->views().approve("lamps", info.held);
  } catch (const Error&) {
    // Its owner has not said anything yet, or they went meanwhile.
  }
}

/// As `dmm view verify --repair`: which of its newest entries the cache lost, nobody can see.
void Scene::repair() {
  if (plan_.lamps == 0 || !journal_.lost(Stored::Where::cache)) return;
  try {
    hand_->views().rebuild("lamps");
  } catch (const Error& error) {
    note(error.what());
  }
}

}  // namespace dmm::simulation
