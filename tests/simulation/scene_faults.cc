// The part of the scene that makes workers and the server fail.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/simulation/scene.h"

namespace dmm::simulation {

using namespace std::chrono_literals;
using testing::Part;

namespace {

/// What was not answered before the faults ended costs a lease at most.
constexpr Time kAftermath = 4s;

}  // namespace

void Scene::begin_life(std::uint32_t place) {
  const auto number = static_cast<std::uint32_t>(lives_.size());
  note(fmt::format("worker {} begins, life {}", place, number));
  ViewSnapshots snapshots;
  if (plan_.disks) {
    const auto directory = disks_ / std::to_string(number);
    snapshots.directory = directory.string();
    snapshots.interval = 1s;
    places_[place].disk.lay_out(directory);
  }
  journal_.lives.push_back({.place = place, .killed = {}, .pauses = {}});
  lives_.push_back(std::make_unique<Life>(scheduler_, server_, number, plan_.seed * 100 + number,
                                          logger_.with({{"life", number}}), options_.bug,
                                          snapshots));
  Life& life = *lives_.back();
  places_[place].life = &life;
  set_up(life);
  life.begin();
}

std::filesystem::path Scene::directory_of(const Life& life) const {
  return disks_ / std::to_string(life.number());
}

void Scene::kill(std::uint32_t place, milliseconds back_after) {
  Life* const life = std::exchange(places_[place].life, nullptr);
  if (life == nullptr) return;
  note(fmt::format("worker {} is killed, life {}", place, life->number()));
  const testing::Scheduler::Group nobody = 0;
  const Membership membership(scheduler_, nobody);
  LifeRecord& record = journal_.lives[life->number()];
  record.killed = now();
  record.ended = now();
  for (Run& run : journal_.runs) {
    if (run.life == life->number() && !run.end) run.end = now();
  }
  life->kill();
  if (plan_.disks) places_[place].disk.keep(directory_of(*life));
  helpers_.emplace_back([life] { life->bury(); });
  later(back_after, [this, place] {
    if (places_[place].life == nullptr) begin_life(place);
  });
}

void Scene::at_crash_point(testing::Scheduler::Group group, std::string_view name) {
  if (group == 0) return;
  Reached& reached = verdict_.points[std::string(name)];
  ++reached.times;
  const std::uint32_t number = group - 1;
  const std::uint32_t place = journal_.lives.at(number).place;
  Place& there = places_[place];
  if (there.life == nullptr || there.life->number() != number || there.point != name) return;
  if (--there.points_left > 0) return;
  there.point.clear();
  ++reached.kills;
  note(fmt::format("worker {} comes to \"{}\"", place, name));
  kill(place, there.back_after);
}

void Scene::perform(const Step& step) {
  if (ask(step)) return;
  note(to_string(step));
  step.deed < Deed::restart ? strike(step) : strike_server(step);
}

void Scene::strike(const Step& step) {
  Place& place = places_.at(step.who);
  Life* const life = place.life;
  if (step.deed == Deed::spoil_disk) return place.disk.spoil(step.what);
  if (life == nullptr) return;
  testing::Faults& faults = life->faults();
  const testing::Which some{.share = 0.5, .next = step.what};
  switch (step.deed) {
    case Deed::crash:
      return kill(step.who, step.time);
    case Deed::crash_at:
      place.point = step.point;
      place.points_left = step.what;
      place.back_after = step.time;
      return;
    case Deed::stop:
      return stop(step.who, step.time);
    case Deed::pause:
      journal_.lives[life->number()].pauses.push_back({now(), now() + step.time});
      return scheduler_.freeze(life->group(), step.time);
    case Deed::partition:
      faults.partition();
      return later(step.time, [life] { life->faults().heal(); });
    case Deed::refuse:
      return faults.refuse(some);
    case Deed::in_doubt:
      return faults.in_doubt(some);
    case Deed::drop:
      return faults.drop(some);
    case Deed::delay:
      return faults.delay(some, step.time);
    case Deed::jump:
      journal_.lives[life->number()].clock_jumped = true;
      return scheduler_.shift_clock(life->group(), step.what % 2 == 1 ? -step.time : step.time);
    default:
      return;
  }
}

void Scene::strike_server(const Step& step) {
  using Where = Stored::Where;
  const auto lose = [&](Where where, Part part) {
    journal_.losses.push_back({where, now()});
    server_.restart({.stream = part, .messages = step.what});
  };
  const auto recreate = [&](Where where, Part part) {
    journal_.losses.push_back({where, now(), true});
    server_.recreate(part);
  };
  switch (step.deed) {
    case Deed::restart:
      return server_.restart();
    case Deed::lose_work:
      return lose(Where::work, Part::work);
    case Deed::lose_reports:
      return lose(Where::reports, Part::reports);
    case Deed::lose_cache:
      return lose(Where::cache, Part::cache);
    case Deed::lose_status:
      return lose(Where::status, Part::status);
    case Deed::lose_leases:
      return lose(Where::leases, Part::leases);
    case Deed::recreate_work:
      return recreate(Where::work, Part::work);
    case Deed::recreate_reports:
      return recreate(Where::reports, Part::reports);
    case Deed::recreate_cache:
      return recreate(Where::cache, Part::cache);
    case Deed::recreate_status:
      return recreate(Where::status, Part::status);
    case Deed::recreate_leases:
      return recreate(Where::leases, Part::leases);
    default:
      return;
  }
}

/// It ends as by SIGTERM, and another one begins behind that.
void Scene::stop(std::uint32_t place, milliseconds back_after) {
  Life* const life = std::exchange(places_.at(place).life, nullptr);
  if (life == nullptr) return;
  journal_.lives[life->number()].ended = now();
  helpers_.emplace_back([this, life, place, back_after] {
    life->stop();
    if (plan_.disks) places_[place].disk.keep(directory_of(*life));
    later(back_after, [this, place] {
      if (places_[place].life == nullptr) begin_life(place);
    });
  });
}

void Scene::heal() {
  note("the faults end");
  {
    const std::lock_guard lock(agenda_mutex_);
    agenda_.clear();
  }
  for (const auto& speaker : speakers_) {
    speaker->faults().clear();
    speaker->faults().delay({}, 5ms);
  }
  heal_workers();
  resume_all();
  lift_limits();
  for (Valve& valve : valves_) {
    if (!valve.for_good) valve = Valve();
  }
  retry();
  if (!journal_.losses.empty()) say_again();
  // Who is stopped cannot be healed, and finds out that it lost its lanes when it goes on.
  Time stopped = now();
  for (const LifeRecord& life : journal_.lives) {
    for (const LifeRecord::Pause& pause : life.pauses) stopped = std::max(stopped, pause.to);
  }
  pass_until(stopped + kAftermath);
}

void Scene::heal_workers() {
  for (std::uint32_t place = 0; place < places_.size(); ++place) {
    places_[place].point.clear();
    Life* const life = places_[place].life;
    if (life == nullptr) {
      begin_life(place);
      continue;
    }
    life->faults().clear();
    life->faults().heal();
    life->faults().delay({}, 3ms);
  }
}

}  // namespace dmm::simulation
