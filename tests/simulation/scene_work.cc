// The part of the scene that is what workers do.

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "dmm/identity.h"
#include "dmm/internal/control_store.h"
#include "dmm/json.h"
#include "dmm/wire.h"
#include "tests/simulation/scene.h"

namespace dmm::simulation {

using namespace std::chrono_literals;
using nlohmann::json;

namespace {

constexpr milliseconds kTimeout = 5s;
constexpr milliseconds kHanging = 6s;

WorkOptions work_options(int attempts_max = 0) {
  WorkOptions options;
  options.concurrency = kConcurrency;
  options.timeout = kTimeout;
  options.backoff_first = kBackoffFirst;
  options.backoff_max = kBackoffMax;
  options.grace = 2s;
  options.attempts_max = attempts_max;
  return options;
}

}  // namespace

void Scene::set_up(Life& life) {
  const AnyMaterializer materializer{
      [this, &life](Context& context, json& cache) { return run(life, context, cache); }};
  Bucket& bucket = life.bucket();
  bucket.register_type("job", materializer, work_options());
  if (plan_.valves > 0) bucket.register_type("valve", materializer, work_options(kAttemptsMax));
  if (plan_.meters > 0) {
    bucket.register_type("sink", materializer, work_options());
    bucket.observe("meter", [this, &life](ObserveContext& context, const json& report) {
      observe(life, context, report);
    });
  }
  if (plan_.lamps > 0) {
    bucket.register_type("lamp", materializer, work_options());
    View view;
    view.name = "lamps";
    view.type = "lamp";
    view.inputs = {ViewInput::bucket("desired")};
    view.removals_free = plan_.removals_free;
    view.pipeline = json::parse(
        R"([{"@project": {"id": "$.key", "news": "$.news", "total": {"@sum": "$.levels"}}}])");
    bucket.view(std::move(view));
  }
}

Outcome Scene::run(Life& life, Context& context, json& cache) {
  if (life.killed()) throw std::runtime_error("the worker was killed");
  const std::string key = key_of(context.identity());
  const std::uint64_t news = cache.is_object() ? cache.value("news", std::uint64_t{0}) : 0;
  Run& run = journal_.runs.emplace_back();
  run.key = key;
  run.life = life.number();
  run.epoch = context.epoch().value;
  run.news = news;
  run.deleted = context.deleted();
  run.begin = now();
  run.attempt = context.attempt();
  run.paused = paused(life, context.identity().type);
  const Nature nature = nature_of(context.identity());
  run.doomed = nature != Nature::good;
  note(fmt::format("{} runs on {} in epoch {}, attempt {}, life {}", key, news, run.epoch,
                   context.attempt(), life.number()));
  const std::uint64_t drawn = scheduler_.random();
  milliseconds time(drawn / 64 % 60);
  if (drawn % 8 == 0) time += calm_ ? 250ms : 1500ms;
  if (drawn % 64 == 1 && !calm_) time += 30s;  // it hangs
  const bool hangs = nature == Nature::hangs;
  const bool whole =
      life.work_for(hangs ? kHanging : time, hangs ? std::stop_token() : context.stop_token());
  if (whole && nature == Nature::crashes) crash(life);
  if (life.killed()) throw std::runtime_error("the worker was killed");
  run.end = now();
  if (!whole || (!calm_ && drawn / 4096 % 6 == 0)) {
    note(fmt::format("{} {} on {}", key, whole ? "failed" : "was stopped", news));
    throw std::runtime_error("it failed");
  }
  if (nature == Nature::fails || hangs) throw std::runtime_error("it cannot succeed");
  if (nature == Nature::parks) return Outcome::park("it cannot succeed");
  run.succeeded = true;
  ++verdict_.runs;
  note(fmt::format("{} succeeded on {}", key, news));
  if (!context.deleted()) cache["done"] = news;
  if (!calm_ && drawn / 65536 % 16 == 0) return Outcome::requeue_after(200ms);
  return Outcome::done();
}

/// A run takes its worker with it, if that is not about to end anyway.
void Scene::crash(Life& life) {
  const std::uint32_t place = journal_.lives.at(life.number()).place;
  if (places_[place].life == &life) kill(place, 300ms);
}

/// The type is, as its worker says, and as it is set.
bool Scene::paused(Life& life, const std::string& type) const {
  const auto streams = life.bucket().work_streams();
  const bool said = std::ranges::any_of(streams, [&](const WorkStream* stream) {
    return stream->type() == type && stream->stats().paused;
  });
  const wire::Names names("sim");
  const auto set = [&](const PauseScope& scope) {
    const auto found = server_.look(names.status_subject(internal::pause_key(scope)));
    return found && !wire::is_removed(*found);
  };
  return said && (set({}) || set({type, {}}));
}

void Scene::observe(Life& life, ObserveContext& context, const json& report) {
  const std::uint64_t news = report.value("news", std::uint64_t{0});
  const Identity sink{"sink", context.device()};
  const std::uint64_t drawn = scheduler_.random();
  json state = json::object();
  if (drawn % 2 == 0) {
    state = context.matter(sink);
    if (!state.is_object()) state = json::object();
  }
  state["news"] = news;
  life.work_for(milliseconds(drawn / 2 % 40), context.stop_token());
  if (!calm_ && drawn / 128 % 8 == 0) throw std::runtime_error("it failed");
  context.notify(sink, state);
  if (life.killed()) return;
  journal_.handled.push_back({context.device(), news, now()});
  note(fmt::format("report {} of meter {} is handled", news, context.device()));
}

}  // namespace dmm::simulation
