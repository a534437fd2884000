// Goal: the promises hold while calls fail in every way. Method: many worlds, each with a seed that
// decides which calls fail, which runs throw and when the worker is cut off; what was seen by the
// runs is checked against what was notified. DMM_SEED repeats one world, DMM_SEEDS sets how many.

#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "dmm/testing/wait_for.h"
#include "dmm/testing/world.h"

namespace dmm::testing {

namespace {

using namespace std::chrono_literals;
using nlohmann::json;

Identity thing(int number) {
  return {"thing", std::to_string(number)};
}

// What the runs of a world saw, with what must not be.
class Journal {
 public:
  // A materializer that notes each run, and throws in a share of them.
  AnyMaterializer noting(std::uint64_t seed) {
    return AnyMaterializer{
        [this, seed](Context& context, json& cache) { return run(seed, context, cache); }};
  }

  std::vector<std::string> wrongs() const {
    const std::lock_guard lock(mutex_);
    return wrongs_;
  }
  // The value of the newest run that succeeded; -1 if there was none.
  int last_of(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = last_.find(id);
    return found == last_.end() ? -1 : found->second;
  }
  int runs() const { return runs_; }

 private:
  Outcome run(std::uint64_t seed, Context& context, json& cache) {
    const std::string id = context.identity().id;
    const int value = cache.value("value", -1);
    const int number = ++runs_;
    {
      const std::lock_guard lock(mutex_);
      if (inside_[id]++ > 0) wrongs_.push_back(id + " runs twice at a time");
      int& newest = newest_.try_emplace(id, -1).first->second;
      if (value < newest) {
        wrongs_.push_back(fmt::format("{} runs on {} after it ran on {}", id, value, newest));
      }
      newest = std::max(newest, value);
    }
    becomes_true([&] { return context.stop_token().stop_requested(); }, 1ms);
    std::mt19937_64 random(seed * 1'000 + static_cast<std::uint64_t>(number));
    const bool fails = random() % 4 == 0;
    const std::lock_guard lock(mutex_);
    --inside_[id];
    if (fails) throw std::runtime_error("this run fails");
    last_[id] = value;
    cache["seen"] = value;
    return Outcome::done();
  }

  mutable std::mutex mutex_;
  std::map<std::string, int> inside_;
  std::map<std::string, int> newest_;
  std::map<std::string, int> last_;
  std::vector<std::string> wrongs_;
  std::atomic<int> runs_ = 0;
};

// A scenario returns what was wrong, one a line.
using Scenario = std::function<std::vector<std::string>(std::uint64_t seed)>;

// Runs a scenario with many seeds, many at a time: they mostly wait.
void with_seeds(std::uint64_t seeds, std::size_t at_a_time, const Scenario& scenario) {
  std::uint64_t first = 1;
  if (const char* one = std::getenv("DMM_SEED")) {
    first = std::strtoull(one, nullptr, 10);
    seeds = 1;
  } else if (const char* many = std::getenv("DMM_SEEDS")) {
    seeds = std::strtoull(many, nullptr, 10);
  }
  std::atomic<std::uint64_t> next = first;
  std::mutex mutex;
  std::vector<std::string> wrongs;
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < std::min<std::size_t>(at_a_time, seeds); ++i) {
      threads.emplace_back([&] {
        for (std::uint64_t seed = next++; seed < first + seeds; seed = next++) {
          std::vector<std::string> found;
          try {
            found = scenario(seed);
          } catch (const std::exception& error) {
            found.push_back(error.what());
          }
          const std::lock_guard lock(mutex);
          for (const std::string& wrong : found) {
            wrongs.push_back(fmt::format("DMM_SEED={}: {}", seed, wrong));
          }
        }
      });
    }
  }
  for (const std::string& wrong : wrongs) UNSCOPED_INFO(wrong);
  CHECK(wrongs.empty());
}

// Whether every identity ran on the newest of its news, and its entry says so.
void check_newest(World& world, const Journal& journal, const std::map<int, int>& newest,
                  std::vector<std::string>& wrongs) {
  for (const auto& [number, value] : newest) {
    const Identity identity = thing(number);
    const json entry = world.outside().matter(identity);
    const int ran = journal.last_of(identity.id);
    if (ran != value || entry.value("seen", -1) != value || entry.value("value", -1) != value) {
      wrongs.push_back(fmt::format("{} was notified of {}, ran last on {}, and its entry is {}",
                                   identity.id, value, ran, entry.dump()));
    }
  }
}

// News of a few identities, with values that grow, in an order and at times that the seed decides.
void notify_some(
    World& world, std::mt19937_64& random, std::map<int, int>& newest, int from, int until,
    const std::function<void(int)>& meanwhile = [](int) {}) {
  for (int value = from; value < until; ++value) {
    const int number = static_cast<int>(random() % 6);
    world.outside().notify(thing(number), {{"value", value}});
    newest[number] = value;
    meanwhile(value);
    if (random() % 3 != 0) becomes_true([] { return false; }, 2ms);
  }
}

}  // namespace

TEST_CASE("promises: no wake-up is lost and no run overlaps while calls fail",
          "[promises][fault]") {
  with_seeds(300, 60, [](std::uint64_t seed) {
    Journal journal;  // outlives the last run
    World world({.seed = seed});
    WorkOptions options = quick();
    options.concurrency = 4;
    world.bucket().register_type("thing", journal.noting(seed), options);
    std::mt19937_64 random(seed);
    world.faults().in_doubt({.share = 0.1});
    world.faults().refuse({.share = 0.05});
    world.faults().delay({.share = 0.3}, 3ms);
    world.faults().lag(Part::work, std::chrono::milliseconds(random() % 3));
    world.work();
    if (seed % 4 != 0) {  // else much is there when the work begins
      wait_for(
          "the lease", [&] { return world.bucket().work_streams().at(0)->stats().holds_lease; },
          60s);
    }
    const int cut = static_cast<int>(random() % 30);
    std::map<int, int> newest;
    notify_some(world, random, newest, 0, 30, [&](int value) {
      if (value == cut) world.faults().partition();
      if (value == cut + 5) world.faults().heal();
      if (value == (cut + 15) % 30) world.server().restart();
    });
    world.faults().heal();
    const bool all_done = world.settle(120s).empty();
    auto wrongs = journal.wrongs();
    if (!all_done) wrongs.push_back("something was parked");
    if (world.faults().struck() == 0) wrongs.push_back("no call was struck");
    check_newest(world, journal, newest, wrongs);
    return wrongs;
  });
}

TEST_CASE("promises: every report is handled while calls fail", "[promises][fault]") {
  with_seeds(100, 50, [](std::uint64_t seed) {
    Journal journal;  // outlives the last run
    World world({.seed = seed});
    world.bucket().register_type("thing", journal.noting(seed), quick());
    world.bucket().observe("thing", [](ObserveContext& context, const json& report) {
      json cache = context.matter({"thing", context.device()});
      if (!cache.is_object()) cache = json::object();
      cache["value"] = report.at("value");
      context.notify({"thing", context.device()}, cache);
    });
    world.faults().in_doubt({.share = 0.05});
    world.faults().refuse({.share = 0.05});
    world.faults().delay({.share = 0.3}, 3ms);
    world.work();
    std::mt19937_64 random(seed);
    std::map<int, int> newest;
    for (int value = 0; value < 20; ++value) {
      const int number = static_cast<int>(random() % 4);
      world.outside().report("thing", std::to_string(number), {{"value", value}});
      newest[number] = value;
      if (value == 10) world.faults().partition();
      if (value == 15) world.faults().heal();
    }
    world.settle(120s);
    auto wrongs = journal.wrongs();
    check_newest(world, journal, newest, wrongs);
    return wrongs;
  });
}

TEST_CASE("promises: two workers of which one is cut off never run one identity at a time",
          "[promises][fault]") {
  with_seeds(30, 30, [](std::uint64_t seed) {
    Journal journal;  // outlives the last run
    World world({.seed = seed});
    world.bucket().register_type("thing", journal.noting(seed), quick());
    Worker& second = world.another_worker();
    second.bucket().register_type("thing", journal.noting(seed), quick());
    // Both have looked, and seen no owner, before one of them is the first to write.
    world.faults().delay({.stream = Part::leases}, 10ms);
    second.faults().delay({.stream = Part::leases}, 10ms);
    world.work();
    second.work();
    std::mt19937_64 random(seed);
    const auto holds = [](Worker& worker) {
      return worker.bucket().work_streams().at(0)->stats().holds_lease;
    };
    wait_for(
        "the first lease", [&] { return holds(world.worker()) || holds(second); }, 30s);
    Worker& owner = holds(world.worker()) ? world.worker() : second;
    Worker& standby = &owner == &second ? world.worker() : second;
    owner.faults().delay({.share = 0.5}, 5ms);
    std::map<int, int> newest;
    notify_some(world, random, newest, 0, 10);
    owner.faults().partition();
    notify_some(world, random, newest, 10, 20);
    wait_for(
        "the take-over", [&] { return holds(standby); }, 30s);
    notify_some(world, random, newest, 20, 30);
    owner.faults().heal();  // what it still had under way arrives now
    notify_some(world, random, newest, 30, 40);
    world.settle(120s);
    auto wrongs = journal.wrongs();
    check_newest(world, journal, newest, wrongs);
    return wrongs;
  });
}

TEST_CASE("promises: notifies during a run lead to exactly one more on the newest",
          "[promises][fault]") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("DMM_SEED=" << seed);
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<int> seen;
    bool open = false;
    World world({.seed = seed});
    world.bucket().register_type("thing", AnyMaterializer{[&](Context&, json& cache) {
                                   std::unique_lock lock(mutex);
                                   seen.push_back(cache.value("value", -1));
                                   changed.wait_for(lock, 20s, [&] { return open; });
                                   return Outcome::done();
                                 }},
                                 quick());
    world.faults().delay({.share = 0.5}, 2ms);
    world.faults().lag(Part::work, 1ms);
    world.work();
    world.outside().notify(thing(1), {{"value", 0}});
    const auto runs = [&] {
      const std::lock_guard lock(mutex);
      return seen.size();
    };
    wait_for("the run", [&] { return runs() == 1; });
    constexpr int kLast = 20;
    for (int value = 1; value <= kLast; ++value) {
      world.outside().notify(thing(1), {{"value", value}});
      wait_for("the worker to hear of it", [&] {
        const WorkStats stats = world.bucket().work_streams().at(0)->stats();
        return stats.tokens == static_cast<std::uint64_t>(value) + 1;
      });
    }
    {
      const std::lock_guard lock(mutex);
      open = true;
      changed.notify_all();
    }
    world.settle();
    CHECK(seen == std::vector{0, kLast});
  }
}

}  // namespace dmm::testing
