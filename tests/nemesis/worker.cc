// A worker of the scene. It works the type with the public interface as a user would, but for the
// defects that it is told to have.

#include "dmm/bucket.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "tests/nemesis/defects.h"
#include "tests/nemesis/history.h"
#include "tests/nemesis/journal.h"
#include "tests/nemesis/roles.h"
#include "tests/nemesis/world.h"

namespace dmm::nemesis {

namespace {

using namespace std::chrono_literals;

constexpr auto kOpenAgain = 200ms;

/// Spread evenly, and the same in every process.
std::uint64_t scatter(std::uint64_t identity, std::uint64_t news) {
  std::uint64_t x = identity * 0x9E3779B97F4A7C15u + news;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// Most runs are over at once, some take a while, so that faults find runs under way.
std::chrono::milliseconds length_of(std::uint64_t dice) {
  const auto percent = dice % 1'000;
  if (percent < 5) return 400ms;
  if (percent < 25) return std::chrono::milliseconds(20 + dice / 1'000 % 100);
  if (percent < 60) return 5ms;
  return 0ms;
}

/// What the runs of a worker do: they change the world, and write down that they did.
class Work final {
 public:
  Work(const Role& role, Defects& defects)
      : life_(role.number),
        journal_(runs_file(role.directory, role.number)),
        world_(world_file(role.directory)),
        defects_(defects) {}

  Outcome materialize(Context& context, nlohmann::json& cache) {
    const Nanoseconds begin = now_ns();
    const auto identity = static_cast<std::uint32_t>(number_of(context.identity().id));
    const auto news = cache.value("news", std::uint64_t{0});
    if (defects_.drops(identity, news)) return Outcome::done();
    const std::uint64_t run = journal_.begun(identity, news, context.epoch().value, begin);
    const std::uint64_t dice = scatter(identity, news);
    if (!hold(context.stop_token(), length_of(dice))) fail(run, "told to stop");
    if (dice / 1'000'000 % 500 == 0 && context.attempt() == 1) fail(run, "one of 500");
    if (world_.change(identity, context.epoch().value, news) == World::Answer::refused) {
      fail(run, "the world has met a later epoch");
    }
    cache["life"] = life_;
    defects_.ran(context, cache);
    ++world_.counters().succeeded;
    journal_.ended(run, true);
    return Outcome::done();
  }

  /// As materialize, without a lease: see Bug::no_lease.
  void run_anyway(std::uint32_t identity, std::uint64_t news) {
    const std::uint64_t run = journal_.begun(identity, news, 0, now_ns());
    hold(std::stop_token(), 20ms);
    journal_.ended(run, true);
  }

 private:
  /// False if it was told to stop.
  static bool hold(const std::stop_token& stop, std::chrono::milliseconds time) {
    if (time.count() > 0) {
      std::mutex mutex;
      std::condition_variable_any never;
      std::unique_lock lock(mutex);
      never.wait_for(lock, stop, time, [] { return false; });
    }
    return !stop.stop_requested();
  }

  [[noreturn]] void fail(std::uint64_t run, const char* why) {
    journal_.ended(run, false);
    throw std::runtime_error(why);
  }

  const std::uint32_t life_;
  RunJournal journal_;
  World world_;
  Defects& defects_;
};

WorkOptions work_options() {
  WorkOptions options;
  options.timeout = 20s;
  options.backoff_first = 20ms;
  options.backoff_max = 500ms;
  options.grace = 2s;
  return options;
}

/// Opens the namespace as soon as a server can be reached; nothing if it is to end before.
std::optional<Bucket> open(const Role& role, const Ending& ending) {
  for (;;) {
    try {
      BucketOptions options;
      options.connection.servers = role.servers;
      options.connection.name = fmt::format("worker life {}", role.number);
      options.create = false;
      options.logger = Logger::json(Level::info);
      // Half of the lives see each other's deaths, the others are waited for.
      if (role.number % 2 == 0) options.run_directory = role.directory + "/run";
      return Bucket::open(kNamespace, std::move(options));
    } catch (const Error& error) {
      if (error.kind() != Kind::retry && error.kind() != Kind::in_doubt) throw;
    }
    if (ending.wait(kOpenAgain)) return std::nullopt;
  }
}

}  // namespace

int play_worker(const Role& role, const Ending& ending) {
  std::optional<Bucket> bucket = open(role, ending);
  if (!bucket) return 0;
  Defects defects(role);
  Work work(role, defects);
  defects.start(
      [&work](std::uint32_t identity, std::uint64_t news) { work.run_anyway(identity, news); });
  bucket->register_type(kType, AnyMaterializer{[&work](Context& context, nlohmann::json& cache) {
                          return work.materialize(context, cache);
                        }},
                        work_options());
  std::exception_ptr failed;
  std::atomic<bool> over = false;
  {
    std::jthread thread([&](std::stop_token stop) {
      try {
        bucket->work(stop);
      } catch (...) {
        failed = std::current_exception();
      }
      over = true;
    });
    while (!over && !ending.wait(50ms)) {
    }
  }
  defects.stop();
  if (failed) std::rethrow_exception(failed);
  bucket->close();
  return 0;
}

}  // namespace dmm::nemesis
