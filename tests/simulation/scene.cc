#include "tests/simulation/scene.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/testing/internal/backstage.h"
#include "dmm/wire.h"

namespace dmm::simulation {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::Part;

namespace {

transport::StreamConfig desired_config() {
  return {
      .name = "KV_desired", .subjects = {"$KV.desired.>"}, .key_value = true, .description = {}};
}

/// What was not answered before the faults ended costs a lease at most.
constexpr Time kAftermath = 4s;

testing::SchedulerOptions scheduler_options(std::uint64_t seed) {
  return {.seed = seed, .patience = 60s, .abort_if_blocked = true};
}

WorkOptions work_options() {
  WorkOptions options;
  options.concurrency = 4;
  options.timeout = 5s;
  options.backoff_first = 50ms;
  options.backoff_max = 2s;
  options.grace = 2s;
  return options;
}

}  // namespace

// ---- a speaker

Speaker::Speaker(const testing::MemoryServer& server, std::uint64_t seed)
    : memory_(server.connect(seed)),
      bucket_(Bucket::open("sim", {.transport = memory_})),
      desired_(memory_->open(desired_config(), true)),
      thread_([this](const std::stop_token& stop) { speak(stop); }) {}

void Speaker::say(Speech speech) {
  const std::lock_guard lock(mutex_);
  speeches_.push_back(std::move(speech));
  changed_.notify_all();
}

bool Speaker::silent() const {
  const std::lock_guard lock(mutex_);
  return speeches_.empty() && !speaking_;
}

void Speaker::speak(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !speeches_.empty(); })) {
    const Speech speech = std::move(speeches_.front());
    speeches_.pop_front();
    speaking_ = true;
    lock.unlock();
    try {
      speech(bucket_, *desired_);
    } catch (const Error&) {
      // It was not acknowledged; what is said next is newer.
    }
    lock.lock();
    speaking_ = false;
  }
}

// ---- the scene

Scene::Scene(const Plan& plan, const RunOptions& options)
    : plan_(plan), options_(options), scheduler_(scheduler_options(plan.seed)) {
  if (options_.logs) {
    logger_ =
        Logger(Level::debug, [this](Level level, std::string_view message, const json& fields) {
          note(fmt::format("  {} {} {}", to_string(level), message, fields.dump()));
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
    speakers_.push_back(std::make_unique<Speaker>(server_, plan.seed + i + 1));
    speakers_.back()->faults().delay({}, 5ms);
    speakers_.back()->faults().in_doubt({.share = 0.04});
  }
  places_.resize(plan.workers);
}

Scene::~Scene() {
  scheduler_.at_crash_points({});
}

Verdict Scene::play() {
  for (std::uint32_t place = 0; place < plan_.workers; ++place) begin_life(place);
  for (const Step& step : plan_.steps) {
    pass_until(step.at);
    perform(step);
  }
  pass_until(plan_.storm);
  heal();
  if (settle(90s, "behind the storm")) {
    calm_ = true;
    journal_.calm = now();
    note("nothing fails from here on");
    act_in_calm();
    if (settle(20s, "in the calm")) check_bounds();
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
  return std::move(verdict_);
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

// ---- workers

void Scene::begin_life(std::uint32_t place) {
  const auto number = static_cast<std::uint32_t>(lives_.size());
  note(fmt::format("worker {} begins, life {}", place, number));
  journal_.lives.push_back({.place = place, .killed = {}, .pauses = {}});
  lives_.push_back(std::make_unique<Life>(scheduler_, server_, number, plan_.seed * 100 + number,
                                          logger_.with({{"life", number}}), options_.bug));
  Life& life = *lives_.back();
  places_[place].life = &life;
  set_up(life);
  life.begin();
}

void Scene::set_up(Life& life) {
  const AnyMaterializer materializer{
      [this, &life](Context& context, json& cache) { return run(life, context, cache); }};
  Bucket& bucket = life.bucket();
  bucket.register_type("job", materializer, work_options());
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
    view.pipeline = json::parse(R"([{"@project": {"id": "$.key", "news": "$.news"}}])");
    bucket.view(std::move(view));
  }
}

void Scene::kill(std::uint32_t place, milliseconds back_after) {
  Life* const life = std::exchange(places_[place].life, nullptr);
  if (life == nullptr) return;
  note(fmt::format("worker {} is killed, life {}", place, life->number()));
  const testing::Scheduler::Group nobody = 0;
  const Membership membership(scheduler_, nobody);
  journal_.lives[life->number()].killed = now();
  for (Run& run : journal_.runs) {
    if (run.life == life->number() && !run.end) run.end = now();
  }
  life->kill();
  helpers_.emplace_back([life] { life->bury(); });
  later(back_after, [this, place] {
    if (places_[place].life == nullptr) begin_life(place);
  });
}

void Scene::at_crash_point(testing::Scheduler::Group group, std::string_view name) {
  if (group == 0) return;
  const std::uint32_t number = group - 1;
  const std::uint32_t place = journal_.lives.at(number).place;
  Place& there = places_[place];
  if (there.life == nullptr || there.life->number() != number || there.point != name) return;
  if (--there.points_left > 0) return;
  there.point.clear();
  note(fmt::format("worker {} comes to \"{}\"", place, name));
  kill(place, there.back_after);
}

// ---- what happens

void Scene::perform(const Step& step) {
  switch (step.deed) {
    case Deed::notify:
      return notify(step.what);
    case Deed::report:
      return report(step.what);
    case Deed::want:
      return want(step.what, true);
    case Deed::unwant:
      return want(step.what, false);
    default:
      break;
  }
  note(to_string(step));
  step.deed < Deed::restart ? strike(step) : strike_server(step);
}

void Scene::strike(const Step& step) {
  Place& place = places_.at(step.who);
  Life* const life = place.life;
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
      place.life = nullptr;
      helpers_.emplace_back([this, life, who = step.who, time = step.time] {
        life->stop();
        later(time, [this, who] {
          if (places_[who].life == nullptr) begin_life(who);
        });
      });
      return;
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
      return scheduler_.shift_clock(life->group(), step.what % 2 == 1 ? -step.time : step.time);
    default:
      return;
  }
}

void Scene::strike_server(const Step& step) {
  switch (step.deed) {
    case Deed::restart:
      return server_.restart();
    case Deed::lose_work:
      journal_.losses.push_back({Stored::Where::work, now()});
      return server_.restart({.stream = Part::work, .messages = step.what});
    case Deed::lose_reports:
      journal_.losses.push_back({Stored::Where::reports, now()});
      return server_.restart({.stream = Part::reports, .messages = step.what});
    case Deed::lose_cache:
      journal_.losses.push_back({Stored::Where::cache, now()});
      return server_.restart({.stream = Part::cache, .messages = step.what});
    case Deed::recreate_work:
      journal_.losses.push_back({Stored::Where::work, now()});
      return server_.recreate(Part::work);
    default:
      return;
  }
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
  if (!journal_.losses.empty()) say_again();
  // Who is stopped cannot be healed, and finds out that it lost its lanes when it goes on.
  Time stopped = now();
  for (const LifeRecord& life : journal_.lives) {
    for (const LifeRecord::Pause& pause : life.pauses) stopped = std::max(stopped, pause.to);
  }
  pass_until(stopped + kAftermath);
}

/// Those who know what is wanted say it again, as behind every loss of history.
void Scene::say_again() {
  for (std::uint32_t job = 0; job < plan_.jobs; ++job) {
    if (known_.contains(fmt::format("job.{}", job))) notify(job);
  }
  for (std::uint32_t meter = 0; meter < plan_.meters; ++meter) {
    if (known_.contains(fmt::format("sink.{}", meter))) report(meter);
  }
  // Which of its newest entries the cache lost, nobody can see.
  if (plan_.lamps > 0 && journal_.lost(Stored::Where::cache)) {
    try {
      hand_->views().rebuild("lamps");
    } catch (const Error& error) {
      note(error.what());
    }
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
      // Devices report on and on. What came in place of reports that were lost may be passed over.
      for (std::uint32_t meter = 0; !calm_ && meter < plan_.meters; ++meter) {
        if (journal_.lost(Stored::Where::reports)) report(meter);
      }
    }
  }
  pass_until(now() + 400ms);
  return true;
}

/// Behind a loss of history removals wait for a person.
void Scene::approve_removals() {
  try {
    const ViewInfo info = hand_->views().find("lamps");
    if (info.held > 0) hand_->views().approve("lamps", info.held);
  } catch (const Error&) {
    // Its owner has not said anything yet, or they went meanwhile.
  }
}

/// Short bursts, one behind the other.
void Scene::act_in_calm() {
  for (std::uint32_t i = 0; i < 24; ++i) {
    const std::uint64_t drawn = scheduler_.random();
    const auto what = static_cast<std::uint32_t>(drawn >> 32);
    const std::uint64_t kind = drawn % 3;
    for (std::uint64_t times = drawn / 3 % 4 == 0 ? 1 + drawn / 12 % 4 : 1; times > 0; --times) {
      if (kind == 1 && plan_.meters > 0) {
        report(what % plan_.meters);
      } else if (kind == 2 && plan_.lamps > 0) {
        want(what % plan_.lamps, drawn / 48 % 6 != 0);
      } else {
        notify(what % plan_.jobs);
      }
    }
    pass_until(now() + milliseconds(drawn / 300 % 120));
  }
}

// ---- what users do

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

void Scene::notify(std::uint32_t job) {
  speakers_[job % 2]->say([this, job](Bucket& bucket, transport::Stream&) {
    const Identity identity{"job", std::to_string(job)};
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

void Scene::want(std::uint32_t lamp, bool wanted) {
  speakers_[2]->say([this, lamp, wanted](Bucket&, transport::Stream& desired) {
    const std::string key = fmt::format("lamp.{}", lamp);
    const Known before = known_[key];
    transport::Publication wish{.subject = fmt::format("$KV.desired.{}", lamp)};
    // Now and then something is said that changes no row.
    const bool same = !before.gone && before.acknowledged == before.news && before.news > 0 &&
                      wanted && scheduler_.random() % 4 == 0;
    if (same) {
      wish.payload = dump_json(json{{"news", before.news}, {"other", now().count()}});
      note(fmt::format("lamp {} is wanted as before", lamp));
      transport::publish(desired, std::move(wish), 20s);
      return;
    }
    const std::size_t place = said(key, !wanted);
    const std::uint64_t news = journal_.said[place].news;
    if (wanted) {
      wish.payload = dump_json(json{{"news", news}});
    } else {
      wish.headers.emplace_back(wire::kKvOperation, "DEL");
    }
    note(fmt::format("lamp {} is {} ({})", lamp, wanted ? "wanted" : "not wanted", news));
    transport::publish(desired, std::move(wish), 20s);
    acknowledged(place);
  });
}

// ---- what workers do

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
  note(fmt::format("{} runs on {} in epoch {}, attempt {}, life {}", key, news, run.epoch,
                   context.attempt(), life.number()));
  const std::uint64_t drawn = scheduler_.random();
  milliseconds time(drawn / 64 % 60);
  if (drawn % 8 == 0) time += calm_ ? 250ms : 1500ms;
  if (drawn % 64 == 1 && !calm_) time += 30s;  // it hangs
  const bool whole = life.work_for(time, context.stop_token());
  if (life.killed()) throw std::runtime_error("the worker was killed");
  run.end = now();
  if (!whole || (!calm_ && drawn / 4096 % 6 == 0)) {
    note(fmt::format("{} {} on {}", key, whole ? "failed" : "was stopped", news));
    throw std::runtime_error("it failed");
  }
  run.succeeded = true;
  ++verdict_.runs;
  note(fmt::format("{} succeeded on {}", key, news));
  if (!context.deleted()) cache["done"] = news;
  return Outcome::done();
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
