// Real processes, real faults, and a verdict. See scripts/nemesis.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>

#include "dmm/error.h"
#include "dmm/testing/temporary_directory.h"
#include "dmm/testing/wait_for.h"
#include "tests/nemesis/journal.h"
#include "tests/nemesis/nemesis.h"
#include "tests/nemesis/options.h"
#include "tests/nemesis/progress.h"
#include "tests/nemesis/roles.h"
#include "tests/nemesis/scene.h"
#include "tests/nemesis/verdict.h"
#include "tests/nemesis/watcher.h"
#include "tests/nemesis/world.h"

namespace dmm::nemesis {

namespace {

using namespace std::chrono_literals;

constexpr auto kTurn = 10ms;
/// Who wakes so much later stood still, and with it all that was to recover.
constexpr Nanoseconds kStoodStill = kSecond / 2;
constexpr auto kSettleDeadline = 60s;

/// Where histories and logs go: cleared of those of an earlier run.
class Place final {
 public:
  explicit Place(const std::string& keep) {
    if (keep.empty()) {
      temporary_.emplace("dmm-nemesis");
      path_ = temporary_->path();
      return;
    }
    path_ = std::filesystem::absolute(keep);
    // Only what an earlier run left is removed: the directory is somebody else's to name.
    const bool ours = std::filesystem::exists(path_ / "nemesis.log");
    if (!ours && std::filesystem::exists(path_) && !std::filesystem::is_empty(path_)) {
      throw std::runtime_error(path_.string() + " is neither empty nor left by an earlier run");
    }
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::optional<testing::TemporaryDirectory> temporary_;
  std::filesystem::path path_;
};

/// Ctrl-C and SIGTERM end the run; they are looked for between two turns.
class Interrupts final {
 public:
  Interrupts() {
    ::sigemptyset(&signals_);
    ::sigaddset(&signals_, SIGINT);
    ::sigaddset(&signals_, SIGTERM);
    ::sigaddset(&signals_, SIGHUP);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  /// Waits, and throws std::runtime_error if one came.
  void wait(std::chrono::nanoseconds time) const {
    const timespec pause{0, time.count()};
    if (::sigtimedwait(&signals_, nullptr, &pause) > 0) throw std::runtime_error("interrupted");
  }

 private:
  sigset_t signals_{};
};

/// Waits until nothing is left to do; returns how many seconds that took, and what is left if it
/// takes too long.
void settle(Outcome& outcome, Scene& scene, Watcher& watcher) {
  const Nanoseconds begin = now_ns();
  outcome.tokens_left = {1, 0};
  testing::becomes_true(
      [&] {
        scene.look_around();
        watcher.keep_reading();
        try {
          outcome.tokens_left = watcher.tokens();
          outcome.readers = watcher.readers();
        } catch (const Error&) {
          return false;  // the server is not yet there again
        }
        return outcome.tokens_left.outstanding == 0;
      },
      kSettleDeadline);
  outcome.settled_seconds = static_cast<double>(now_ns() - begin) / kSecond;
}

void read_histories(History& history, const std::string& directory) {
  for (std::uint32_t i = 0; i < kNotifiers; ++i) {
    const auto part = read_notified(notified_file(directory, i));
    history.notified.insert(history.notified.end(), part.begin(), part.end());
  }
  for (std::uint32_t life = 0; life < history.lives.size(); ++life) {
    const auto part = read_runs(runs_file(directory, life), life);
    history.runs.insert(history.runs.end(), part.begin(), part.end());
  }
  put_in_order(history);
}

Outcome torment(const Options& options, const std::string& program,
                const std::filesystem::path& directory, const Interrupts& interrupts) {
  Journal log(directory / "nemesis.log");
  World world(world_file(directory.string()));
  Progress progress(options.seconds);
  progress.say("starting the scene");
  Scene scene(options, program, directory);
  Watcher watcher(scene.urls(), scene.replicas());
  Nemesis nemesis(options, scene, watcher, log);
  const Nanoseconds end = now_ns() + options.seconds * kSecond;
  while (now_ns() < end) {
    nemesis.turn();
    watcher.keep_reading();
    progress.show(world, nemesis);
    const Nanoseconds waiting = now_ns();
    interrupts.wait(kTurn);
    if (now_ns() - waiting > kStoodStill) nemesis.stood_still();
  }
  progress.say("healing and settling");
  scene.heal();
  scene.end_notifiers();
  Outcome outcome;
  settle(outcome, scene, watcher);
  scene.end_workers();
  outcome.history.entries = watcher.stop();
  outcome.history_losses = watcher.history_losses();
  outcome.strange_entries = watcher.strange();
  outcome.history.lives = scene.lives();
  outcome.history.volleys = nemesis.volleys();
  outcome.deeds = nemesis.deeds();
  outcome.surprises = scene.surprises();
  outcome.world_refused = world.refused();
  outcome.world_went_back = world.went_back();
  progress.say("checking");
  read_histories(outcome.history, directory.string());
  progress.clear();
  return outcome;
}

int direct(const Options& options, const std::string& program) {
  const Interrupts interrupts;
  if (!options.json.empty() && !std::ofstream(options.json, std::ios::app)) {
    fmt::print(stderr, "nemesis: cannot write {}\n", options.json);
    return 2;
  }
  const Place place(options.keep);
  fmt::print("seed {}{}{}\n", options.seed, options.cluster ? ", three nodes" : "",
             options.bug == Bug::none ? "" : fmt::format(", bug {}", to_string(options.bug)));
  std::fflush(stdout);
  const Verdict verdict(options, torment(options, program, place.path(), interrupts));
  fmt::print("{}", verdict.text());
  if (!options.keep.empty()) {
    fmt::print(stderr, "histories and logs: {}\n", place.path().string());
  }
  if (!options.json.empty()) verdict.append_json(options.json);
  return verdict.good() ? 0 : 1;
}

int play(const Role& role) {
  const Ending ending;
  if (role.name == "worker") return play_worker(role, ending);
  if (role.name == "notifier") return play_notifier(role, ending);
  throw std::invalid_argument("there is no role " + role.name);
}

}  // namespace

}  // namespace dmm::nemesis

int main(int argc, char** argv) {
  using namespace dmm::nemesis;
  try {
    const Arguments arguments = parse_arguments(argc, argv);
    if (arguments.help) {
      fmt::print("{}", usage());
      return 0;
    }
    if (arguments.role) return play(*arguments.role);
    return direct(arguments.options, std::filesystem::read_symlink("/proc/self/exe").string());
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "nemesis: {}; see --help\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "nemesis: {}\n", error.what());
    return 1;
  }
}
