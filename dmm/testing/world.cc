#include "dmm/testing/world.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "dmm/internal/runtime.h"
#include "dmm/internal/unix_time.h"
#include "dmm/json.h"
#include "dmm/testing/internal/memory_connection.h"
#include "dmm/testing/internal/scheduler.h"
#include "dmm/testing/internal/seed.h"
#include "dmm/testing/wait_for.h"
#include "dmm/wire.h"

namespace dmm::testing {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

WorkOptions quick() {
  WorkOptions options;
  options.backoff_first = 1ms;
  options.backoff_max = 10ms;
  options.grace = 1s;
  return options;
}

// ---- a worker

namespace {

/// What is started meanwhile belongs to the group.
class InGroup final {
 public:
  InGroup(Scheduler* scheduler, std::uint32_t group) : scheduler_(scheduler) {
    if (scheduler_ == nullptr) return;
    before_ = scheduler_->group();
    scheduler_->set_group(group);
  }
  ~InGroup() {
    if (scheduler_ != nullptr) scheduler_->set_group(before_);
  }
  InGroup(const InGroup&) = delete;
  InGroup& operator=(const InGroup&) = delete;

 private:
  Scheduler* const scheduler_;
  std::uint32_t before_ = 0;
};

}  // namespace

Worker::Worker(std::string_view ns, std::shared_ptr<MemoryTransport> memory, const Logger& logger,
               Scheduler* scheduler, std::uint32_t group)
    : memory_(std::move(memory)),
      scheduler_(scheduler),
      group_(group),
      bucket_(Bucket::open(ns, {.logger = logger, .transport = memory_})) {}

Worker::~Worker() {
  // Whoever wanted to know what went wrong has asked stop() or settle().
  thread_.reset();
}

void Worker::work() {
  require(!dead() && !thread_, code::bad_option, "the worker works, or has crashed");
  const InGroup group(scheduler_, group_);
  thread_ = std::make_unique<internal::Thread>([this](const std::stop_token& stop) {
    try {
      bucket_.work(stop);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
  });
}

void Worker::stop() {
  thread_.reset();
  check();
}

void Worker::crash() {
  crashed_ = true;
  memory_->close();
  thread_.reset();
}

void Worker::kill() noexcept {
  memory_->connection_->sever();
  killed_ = true;
}

void Worker::kill_at(std::string_view point, int nth) {
  scheduler();
  require(std::ranges::count(crash_points(), point) > 0 && nth > 0, code::bad_option,
          fmt::format("\"{}\" for the {}. time is no crash point: there are {}", printable(point),
                      nth, fmt::join(crash_points(), ", ")));
  fatal_ = *std::ranges::find(crash_points(), point);
  fatal_in_ = nth;
}

void Worker::reached(std::string_view point) noexcept {
  if (point == fatal_ && --fatal_in_ == 0) kill();
}

void Worker::pause(milliseconds time) {
  scheduler().freeze(group_, time);
}

void Worker::shift_clock(milliseconds by) {
  scheduler().shift_clock(group_, by);
}

Scheduler& Worker::scheduler() const {
  require(scheduler_ != nullptr, code::bad_option,
          "only in a World with virtual_time can this be done to a worker");
  return *scheduler_;
}

void Worker::check() const {
  const std::lock_guard lock(mutex_);
  if (failure_ && !dead()) std::rethrow_exception(failure_);
}

// ---- the world

namespace {

std::uint64_t seed_of(const WorldOptions& options) {
  if (options.seed) return *options.seed;
  const auto given = seed_of_environment();
  return given ? *given : internal::random_seed();
}

std::string describe(const Matter& matter) {
  std::string text = fmt::format("{} is {}", key_of(matter.identity), to_string(matter.phase));
  if (matter.attempts > 0) text += fmt::format(" after {} attempts", matter.attempts);
  if (!matter.error.empty()) text += fmt::format(": {} {}", matter.error_code, matter.error);
  return text;
}

/// What one of those who may do something says of it, for example the observers of a kind.
struct Duty {
  bool held = false;   ///< somebody does it
  std::string moving;  ///< what is not done
};

/// The first thing that somebody has to do, or that nobody does.
std::string undone(const std::map<std::string, Duty>& duties) {
  for (const auto& [name, duty] : duties) {
    if (!duty.held) return fmt::format("{} has not begun", name);
    if (!duty.moving.empty()) return fmt::format("{} {}", name, duty.moving);
  }
  return {};
}

}  // namespace

World::World(WorldOptions options)
    : options_(std::move(options)),
      seed_(seed_of(options_)),
      scheduler_(options_.virtual_time
                     ? std::make_unique<Scheduler>(SchedulerOptions{.seed = seed_})
                     : nullptr),
      hand_(server_.connect(seed_)) {
  outside_ = Bucket::open(options_.ns, {.logger = options_.logger, .transport = hand_});
  if (scheduler_) {
    scheduler_->at_crash_points([this](Scheduler::Group group, std::string_view point) {
      for (const auto& worker : workers_) {
        if (worker->group_ == group) worker->reached(point);
      }
    });
  }
  another_worker();
}

World::~World() {
  if (scheduler_) scheduler_->at_crash_points({});
}

void World::pass(milliseconds time) {
  std::mutex mutex;
  internal::Condition nobody;  // notifies it
  std::unique_lock lock(mutex);
  nobody.wait_for(lock, time, [] { return false; });
}

void World::storm(milliseconds time) {
  worker().memory_->connection_->faults().announce_seed();
  // Each storm is another one.
  std::mt19937_64 random(seed_ + 0x9E3779B97F4A7C15 * ++storms_);
  const auto calm = [](Worker& worker) {
    worker.faults().clear();
    worker.faults().heal();
  };
  const auto end = internal::SteadyClock::now() + time;
  for (auto now = internal::SteadyClock::now(); now < end; now = internal::SteadyClock::now()) {
    Worker& worker = *workers_[random() % workers_.size()];
    const auto left = std::chrono::ceil<milliseconds>(end - now);
    const milliseconds lasts = std::min(left, milliseconds(50 + random() % 4'000));
    strike(worker, random, lasts);
    if (random() % 2 == 0) calm(worker);  // the others go on beside the next one
  }
  for (const auto& worker : workers_) calm(*worker);
}

/// One fault, for so long; some of them last until calm().
void World::strike(Worker& worker, std::mt19937_64& random, milliseconds time) {
  Faults& faults = worker.faults();
  constexpr std::uint64_t kReal = 8;
  const std::uint64_t kinds = scheduler_ ? kReal + 2 : kReal;
  switch (random() % kinds) {
    case 0:
      faults.refuse({.share = 0.5});
      break;
    case 1:
      faults.in_doubt({.share = 0.5});
      break;
    case 2:
      faults.drop({.share = 0.3});
      break;
    case 3:
      faults.duplicate({.share = 0.5});
      break;
    case 4:
      faults.delay({}, time);
      break;
    case 5:
      faults.lag(Part::any, time);
      break;
    case 6:
      faults.partition();
      break;
    case 7:
      server_.restart();
      break;
    case 8:
      worker.pause(time);
      break;
    default: {
      const auto by = std::chrono::minutes(random() % 120) - 1h;
      worker.shift_clock(by);
      pass(time);
      return worker.shift_clock(-by);
    }
  }
  pass(time);
}

std::chrono::system_clock::time_point World::now() const {
  return internal::SystemClock::now();
}

Worker& World::another_worker() {
  // Who was given a seed knows it; the seed of the first worker is the one to print.
  const bool announce = !options_.seed && !seed_of_environment() && workers_.empty();
  const auto number = static_cast<std::uint32_t>(workers_.size() + 1);
  const InGroup group(scheduler_.get(), number);
  auto memory = std::make_shared<MemoryTransport>(std::make_shared<MemoryConnection>(
      hand_->connection_->shared_core(), seed_ + workers_.size(), announce));
  return *workers_.emplace_back(std::make_unique<Worker>(
      options_.ns, std::move(memory), options_.logger, scheduler_.get(), number));
}

std::vector<Matter> World::settle(milliseconds deadline) {
  const auto end = internal::SteadyClock::now() + deadline;
  std::vector<Matter> left;
  std::string still;
  const bool settled = becomes_true(
      [&] {
        bury_the_dead();
        for (const auto& worker : workers_) worker->check();
        still = moving(end, left);
        return still.empty();
      },
      deadline);
  if (settled) return left;
  std::string faults;
  for (const auto& worker : workers_) faults += "; faults: " + worker->faults().to_string();
  throw Error(code::timed_out, fmt::format("waited {} ms for the world to settle: {}{}",
                                           deadline.count(), still, faults));
}

/// The threads of those that were killed end.
void World::bury_the_dead() {
  for (const auto& worker : workers_) {
    if (worker->killed_ && worker->thread_) worker->crash();
  }
}

/// What still moves, in words; nothing if all rests. Reports come first and tokens last, as they
/// make one another in this order.
std::string World::moving(Time deadline, std::vector<Matter>& left) {
  MemoryCore& core = hand_->connection_->core();
  const std::uint64_t before = core.changes();
  // Who observes has a reader, and what that has read is counted only then: so it is asked twice.
  if (std::string text = observing(); !text.empty()) return text;
  if (const auto behind = core.behind(); !behind.empty()) {
    return fmt::format("readers have not read all: {}", fmt::join(behind, ", "));
  }
  if (std::string text = observing(); !text.empty()) return text;
  if (std::string text = viewing(); !text.empty()) return text;
  std::string text = waiting(deadline, left);
  if (text.empty()) text = running();
  if (text.empty() && core.changes() != before) return "something changed just now";
  return text;
}

/// The tokens that are not at rest, in words.
std::string World::waiting(Time deadline, std::vector<Matter>& left) {
  left.clear();
  std::vector<std::string> moving;
  std::set<std::string> known;  // the subjects of tokens that were spoken of
  const wire::Names names(options_.ns);
  for (Matter& matter : outside_->inspect().list("", false)) {
    if (!matter.token) continue;
    known.insert(names.token_subject(matter.identity));
    if (rests(matter, deadline)) {
      left.push_back(std::move(matter));
    } else {
      moving.push_back(describe(matter));
    }
  }
  const auto there = hand_->connection_->core().subjects(names.work(1).name, names.token_filter());
  if (there.size() > known.size()) {
    for (const Refused& refused : outside_->inspect().refused()) known.insert(refused.subject);
    for (const std::string& subject : there) {
      if (!known.contains(subject)) moving.push_back(subject + " is done, and not deleted yet");
    }
  }
  return fmt::format("{}", fmt::join(moving, "; "));
}

bool World::rests(const Matter& matter, Time deadline) const {
  if (matter.phase == Phase::parked) return true;
  if (matter.phase == Phase::offline) {
    // A report that came since makes it run.
    const auto report =
        server_.look(fmt::format("dmm.{}.report.{}", options_.ns, matter.waits_for));
    return !report || !matter.failed_at || report->stored_at < *matter.failed_at;
  }
  const auto token = server_.look(wire::Names(options_.ns).token_subject(matter.identity));
  const auto date = token ? token->header(wire::kNotBefore) : std::nullopt;
  const auto due = date ? internal::parse_unix_ms(*date) : std::nullopt;
  return due && *due - internal::SystemClock::now() > deadline - internal::SteadyClock::now();
}

std::string World::observing() const {
  std::map<std::string, Duty> kinds;
  for (const auto& worker : workers_) {
    if (!worker->thread_) continue;
    for (const Observer* observer : worker->bucket_.observers()) {
      const ObserveStats stats = observer->stats();
      Duty& duty = kinds["the observer of " + observer->kind()];
      if (!stats.holds_lease) continue;
      duty.held = true;
      if (stats.waiting > 0) duty.moving = fmt::format("handles {} reports", stats.waiting);
    }
  }
  return undone(kinds);
}

std::string World::running() const {
  for (const auto& worker : workers_) {
    for (const WorkStream* work : worker->bucket_.work_streams()) {
      const WorkStats stats = work->stats();
      if (!stats.holds_lease || stats.ready + stats.running == 0) continue;
      return fmt::format("{} identities of type {} run, or are about to",
                         stats.ready + stats.running, work->type());
    }
  }
  return {};
}

std::string World::viewing() const {
  std::map<std::string, Duty> views;
  for (const auto& worker : workers_) {
    if (!worker->thread_) continue;
    for (const ViewStream* view : worker->bucket_.view_streams()) {
      const ViewStats stats = view->stats();
      Duty& duty = views["the view " + view->name()];
      if (!stats.holds_lease) continue;
      duty.held = true;
      if (!stats.settled) duty.moving = "is computed, or tells its rows";
    }
  }
  return undone(views);
}

}  // namespace dmm::testing
