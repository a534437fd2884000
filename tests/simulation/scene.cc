#include "tests/simulation/scene.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dmm/testing/internal/backstage.h"

namespace dmm::simulation {

using namespace std::chrono_literals;
using nlohmann::json;

namespace {

testing::SchedulerOptions scheduler_options(std::uint64_t seed) {
  return {.seed = seed, .patience = 60s, .abort_if_blocked = true};
}

}  // namespace

Scene::Scene(const Plan& plan, const RunOptions& options)
    : plan_(plan), options_(options), scheduler_(scheduler_options(plan.seed)) {
  if (options_.logs) {
    logger_ =
        Logger(Level::debug, [this](Level level, std::string_view message, const json& fields) {
          std::string text = fields.dump();
          const std::string disks = disks_.path().string();
          for (std::size_t at = 0; (at = text.find(disks)) != std::string::npos;) {
            text.erase(at, disks.size());  // another one each time
          }
          note(fmt::format("  {} {} {}", to_string(level), message, text));
        });
  }
  testing::Backstage::of(server_).set_witness(
      [this](const transport::Message& message) { witness(message); });
  scheduler_.at_crash_points([this](testing::Scheduler::Group group, std::string_view name) {
    at_crash_point(group, name);
  });
  hand_memory_ = server_.connect(plan.seed);
  hand_ = Bucket::open("sim", {.transport = hand_memory_});
  for (std::uint64_t i = 0; i < 3; ++i) {
    speakers_.push_back(std::make_unique<Speaker>(server_, plan.seed + i + 1, options.bug));
    speakers_.back()->faults().delay({}, 5ms);
    speakers_.back()->faults().in_doubt({.share = 0.04});
  }
  places_.resize(plan.workers);
  journal_.removals_free = plan.removals_free;
  valves_.resize(plan.valves);
}

Scene::~Scene() {
  scheduler_.at_crash_points({});
}

Verdict Scene::play() {
  storm();
  if (settle(120s, "behind the storm") && calm()) {
    check_bounds();
    check_losses();
  }
  for (Place& place : places_) {
    if (place.life == nullptr) continue;
    helpers_.emplace_back([life = std::exchange(place.life, nullptr)] { life->stop(); });
  }
  for (internal::Thread& helper : helpers_) helper.join();
  helpers_.clear();
  check_all();
  verdict_.switches = scheduler_.switches();
  verdict_.simulated = now();
  verdict_.digest = digest_of(journal_);
  return std::move(verdict_);
}

/// Users and faults. What is done in the first moment is done before there are workers.
void Scene::storm() {
  auto step = plan_.steps.begin();
  for (; step != plan_.steps.end() && step->at == Time(); ++step) perform(*step);
  for (std::uint32_t place = 0; place < plan_.workers; ++place) begin_life(place);
  for (; step != plan_.steps.end(); ++step) {
    pass_until(step->at);
    perform(*step);
  }
  pass_until(plan_.storm);
  heal();
}

/// Users alone: now all has to be exact. False if it did not come to an end.
bool Scene::calm() {
  // What was lost is told again when that is noticed.
  if (!journal_.losses.empty()) {
    pass_until(journal_.losses.back().at + 2 * limits::stream_check_interval);
    if (!settle(30s, "behind what was lost")) return false;
  }
  if (plan_.valves > 0) {
    mend_all(true);
    retry();
    if (!settle(30s, "behind what crashed")) return false;
  }
  calm_ = true;
  journal_.calm = now();
  note("nothing fails from here on");
  act_in_calm();
  if (!settle(30s, "in the calm")) return false;
  if (plan_.valves > 0) {
    mend_all(false);
    retry();
    if (!settle(20s, "when all was mended")) return false;
  }
  journal_.late = now();
  return keep_schedule() && keep_trying() && lose_wishes() && restart_owners();
}

/// Every job is run once in an interval, though nothing is said of it.
bool Scene::keep_schedule() {
  if (!plan_.schedule) return true;
  constexpr auto kInterval = 2s;
  limit("job", Setting::resync, kInterval.count());
  const Time begun = now() + kInterval;  // what was due in the interval that goes on is left out
  const Time ended = begun + 2 * kInterval;
  pass_until(ended + 500ms);
  limit("job", Setting::resync, 0);
  pass_until(now() + 500ms);  // a list of the cache that is under way ends
  std::map<std::string, int> runs;
  for (const Run& run : journal_.runs) {
    if (run.begin >= begun && run.begin < ended) ++runs[run.key];
  }
  for (const auto& [key, known] : known_) {
    if (!key.starts_with("job.") || known.acknowledged == 0) continue;
    if (runs[key] > 0 && runs[key] <= 3) continue;
    violate("schedule", fmt::format("{} ran {} times from {} to {}, every {} s was wanted", key,
                                    runs[key], seconds(begun), seconds(ended), kInterval.count()));
  }
  return settle(20s, "behind the schedule");
}

/// Who keeps a view ends and another one begins, mostly with what it left.
bool Scene::restart_owners() {
  if (plan_.lamps == 0 || !plan_.disks) return true;
  for (std::uint32_t place = 0; place < places_.size(); ++place) {
    stop(place, 100ms);
    const std::uint64_t drawn = scheduler_.random();
    if (drawn % 3 > 0) want(static_cast<std::uint32_t>(drawn / 3 % plan_.lamps), drawn % 5 > 0);
    pass_until(now() + 3s);
    if (!settle(20s, "behind the end of a worker")) return false;
  }
  return true;
}

void Scene::note(const std::string& text) {
  if (options_.history) verdict_.history.push_back(fmt::format("{:>12}  {}", seconds(now()), text));
}

void Scene::violate(std::string promise, std::string text) {
  verdict_.violations.push_back({std::move(promise), std::move(text)});
}

// ---- time

void Scene::later(milliseconds delay, std::function<void()> task) {
  const std::lock_guard lock(agenda_mutex_);
  agenda_.emplace(now() + delay, std::move(task));
  agenda_changed_.notify_all();
}

void Scene::pass_until(Time time) {
  std::unique_lock lock(agenda_mutex_);
  while (true) {
    if (!agenda_.empty() && agenda_.begin()->first <= now()) {
      const auto task = std::move(agenda_.extract(agenda_.begin()).mapped());
      lock.unlock();
      task();
      lock.lock();
      continue;
    }
    if (now() >= time) return;
    const Time until = agenda_.empty() ? time : std::min(time, agenda_.begin()->first);
    agenda_changed_.wait_for(lock, until - now());
  }
}

bool Scene::settle(milliseconds deadline, const std::string& when) {
  const Time end = now() + deadline;
  Time looked = now();
  while (true) {
    const std::string text = unsettled();
    if (text.empty()) break;
    if (now() >= end) {
      violate("lost", fmt::format("{} ms {}: {}", deadline.count(), when, text));
      return false;
    }
    pass_until(now() + 50ms);
    if (now() - looked > 5s) {
      looked = now();
      if (plan_.lamps > 0) approve_removals();
      retry();
      if (!calm_) resume_all();  // what was lost may have been set again
      // Who has not noticed yet that the cache is another one may take what is told again for done.
      if (!calm_) repair();
      // Devices report on and on. What came in place of reports that were lost may be passed over.
      for (std::uint32_t meter = 0; !calm_ && meter < plan_.meters; ++meter) {
        if (journal_.lost(Stored::Where::reports)) report(meter);
      }
    }
  }
  pass_until(now() + 400ms);
  return true;
}

}  // namespace dmm::simulation
