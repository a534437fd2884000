// The part of the scene that are the users: they notify, report and wish.

#include <fmt/format.h>

#include <utility>

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/wire.h"
#include "tests/simulation/scene.h"
#include "tests/simulation/wish.h"

namespace dmm::simulation {

using namespace std::chrono_literals;
using nlohmann::json;

/// What is asked for, if it is.
bool Scene::ask(const Step& step) {
  switch (step.deed) {
    case Deed::notify:
      notify("job", step.what);
      return true;
    case Deed::report:
      report(step.what);
      return true;
    case Deed::want:
    case Deed::unwant:
      want(step.what, step.deed == Deed::want);
      return true;
    case Deed::turn:
      notify("valve", step.what);
      return true;
    case Deed::spoil:
      spoil(step.what, static_cast<Nature>(step.who), step.time);
      return true;
    case Deed::retry:
      retry();
      return true;
    case Deed::hold:
      hold(step.point, step.time);
      return true;
    case Deed::limit:
      limit(step.point, static_cast<Setting>(step.who), step.what);
      later(step.time, [this, step] { limit(step.point, static_cast<Setting>(step.who), 0); });
      return true;
    default:
      return false;
  }
}

/// Notes that news are said of an identity. Returns its place in the journal.
std::size_t Scene::said(const std::string& key, bool deleted) {
  Known& known = known_[key];
  known.news = ++news_;
  known.gone = deleted;
  journal_.said.push_back(
      {.key = key, .news = known.news, .deleted = deleted, .begin = now(), .acknowledged = {}});
  return journal_.said.size() - 1;
}

void Scene::acknowledged(std::size_t place) {
  Said& one = journal_.said.at(place);
  one.acknowledged = now();
  known_[one.key].acknowledged = one.news;
  note(fmt::format("{} of {} is acknowledged", one.news, one.key));
}

void Scene::notify(const char* type, std::uint32_t number) {
  speakers_[number % 2]->say([this, type, number](Bucket& bucket, transport::Stream&) {
    const Identity identity{type, std::to_string(number)};
    const std::size_t place = said(key_of(identity), false);
    note(fmt::format("notify {} of {}", key_of(identity), journal_.said[place].news));
    bucket.notify(identity, {{"news", journal_.said[place].news}});
    acknowledged(place);
  });
}

void Scene::report(std::uint32_t meter) {
  speakers_[2]->say([this, meter](Bucket& bucket, transport::Stream&) {
    const std::size_t place = said(fmt::format("sink.{}", meter), false);
    note(fmt::format("meter {} reports {}", meter, journal_.said[place].news));
    bucket.report("meter", std::to_string(meter), {{"news", journal_.said[place].news}});
    acknowledged(place);
  });
}

/// as_before   now and then something is said that changes no row.
void Scene::want(std::uint32_t lamp, bool wanted, bool as_before) {
  speakers_[2]->say([this, lamp, wanted, as_before](Bucket&, transport::Stream& desired) {
    const std::string key = fmt::format("lamp.{}", lamp);
    const Known before = known_[key];
    transport::Publication wish{.subject = fmt::format("$KV.desired.{}", lamp)};
    const bool same = as_before && !before.gone && before.acknowledged == before.news &&
                      before.news > 0 && wanted && scheduler_.random() % 4 == 0;
    if (same) {
      json as_it_was = wish_of(before.news);
      as_it_was["other"] = now().count();
      wish.payload = dump_json(as_it_was);
      note(fmt::format("lamp {} is wanted as before", lamp));
      transport::publish(desired, std::move(wish), 20s);
      return;
    }
    const std::size_t place = said(key, !wanted);
    const std::uint64_t news = journal_.said[place].news;
    if (wanted) {
      wish.payload = dump_json(wish_of(news));
    } else {
      wish.headers.emplace_back(wire::kKvOperation, "DEL");
    }
    note(fmt::format("lamp {} is {} ({})", lamp, wanted ? "wanted" : "not wanted", news));
    transport::publish(desired, std::move(wish), 20s);
    acknowledged(place);
  });
}

/// Those who know what is wanted say it again, as behind every loss of history.
void Scene::say_again() {
  for (std::uint32_t job = 0; job < plan_.jobs; ++job) {
    if (known_.contains(fmt::format("job.{}", job))) notify("job", job);
  }
  for (std::uint32_t meter = 0; meter < plan_.meters; ++meter) {
    if (known_.contains(fmt::format("sink.{}", meter))) report(meter);
  }
  for (std::uint32_t valve = 0; valve < plan_.valves; ++valve) {
    if (known_.contains(fmt::format("valve.{}", valve))) notify("valve", valve);
  }
  repair();
}

/// Short bursts, one behind the other.
void Scene::act_in_calm() {
  for (std::uint32_t i = 0; i < 24; ++i) {
    const std::uint64_t drawn = scheduler_.random();
    act_once(drawn);
    pass_until(now() + milliseconds(drawn / 300 % 120));
  }
  resume_all();
  lift_limits();
}

void Scene::act_once(std::uint64_t drawn) {
  const auto what = static_cast<std::uint32_t>(drawn >> 32);
  const std::uint64_t kind = drawn % 3;
  for (std::uint64_t times = drawn / 3 % 4 == 0 ? 1 + drawn / 12 % 4 : 1; times > 0; --times) {
    if (kind == 1 && plan_.meters > 0) {
      report(what % plan_.meters);
    } else if (kind == 2 && plan_.lamps > 0) {
      want(what % plan_.lamps, drawn / 48 % 6 != 0);
    } else {
      notify("job", what % plan_.jobs);
    }
  }
  const std::uint64_t more = scheduler_.random();
  if (plan_.valves > 0 && more % 2 == 0) {
    const auto valve = static_cast<std::uint32_t>(more / 2 % plan_.valves);
    const std::uint64_t change = more / 16 % 5;
    if (change == 1) spoil(valve, more / 128 % 2 == 0 ? Nature::parks : Nature::fails, 0ms);
    if (change == 2) {
      mend(valve);
      retry();
    }
    notify("valve", valve);
  }
  switch (more / 1024 % 12) {
    case 0:
      return hold(more / 16384 % 2 == 0 ? "job" : "valve", 700ms);
    case 1:
      return hold(fmt::format("job.{}", what % plan_.jobs), 700ms);
    case 2:
      return limit("job", more / 16384 % 2 == 0 ? Setting::rate : Setting::concurrency,
                   1 + static_cast<double>(more / 32768 % 3));
    default:
      return;
  }
}

}  // namespace dmm::simulation
