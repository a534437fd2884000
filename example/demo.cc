// The demo: a story in three scenes, each of which has to end with all players playing what was
// declared. It is the whole example at work, with real servers and real processes.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "example/commands.h"
#include "example/overview.h"
#include "example/player.h"
#include "example/screen.h"
#include "example/stage.h"

namespace example {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Players misbehave at least so long, and until somebody has met each kind of trouble: how long
// that takes is up to the machine.
constexpr auto kTroubleMin = std::chrono::seconds(4);
constexpr auto kTroubleMax = std::chrono::seconds(15);

constexpr std::array kSongs = {"So What", "Take Five",   "Blue Rondo", "Blue in Green",
                               "Naima",   "Giant Steps", "Footprints", "Straight No Chaser"};

struct Scene {
  std::string name;
  bool converged = false;
  double seconds = 0;
};
void to_json(nlohmann::json& json, const Scene& scene) {
  json = {{"name", scene.name}, {"converged", scene.converged}, {"seconds", scene.seconds}};
}

class Story final {
 public:
  Story(Stage& stage, Screen& screen, const DemoOptions& options, std::stop_token stop)
      : stage_(stage), screen_(screen), options_(options), stop_(std::move(stop)) {}

  /// True if every scene ended as it should.
  bool tell() {
    return play("declare",
                [this] { declare(0, "Somebody declares what the players shall play."); }) &&
           play("trouble", [this] { trouble(); }) && play("power cut", [this] { power_cut(); });
  }

  nlohmann::json summary();
  void print_summary(const nlohmann::json& summary);

 private:
  void declare(std::size_t shift, std::string_view what);
  void misbehave(std::size_t index, const Misbehaviour& misbehaviour);
  void trouble();
  void end_trouble();
  void power_cut();
  bool play(const std::string& name, const std::function<void()>& action);
  bool look(Clock::time_point scene_began);

  std::string name_of(std::size_t index) const { return fmt::format("p{}", index + 1); }

  Stage& stage_;
  Screen& screen_;
  const DemoOptions& options_;
  const std::stop_token stop_;
  const Clock::time_point began_ = Clock::now();
  std::vector<Scene> scenes_;
  std::vector<PlayerView> players_;  // as last seen
  std::optional<Clock::time_point> trouble_since_;
  Clock::time_point crashed_{};
  std::optional<double> take_over_seconds_;
};

void Story::declare(std::size_t shift, std::string_view what) {
  std::map<std::string, std::string> songs;
  for (std::size_t i = 0; i < options_.players; ++i) {
    songs[name_of(i)] = kSongs[(i + shift) % kSongs.size()];
  }
  screen_.say(what);
  stage_.desired().declare(songs);
}

void Story::misbehave(std::size_t index, const Misbehaviour& misbehaviour) {
  http_post(stage_.options().players_url, "/" + name_of(index) + "/misbehave",
            nlohmann::json(misbehaviour).dump());
}

void Story::trouble() {
  const double longest = std::chrono::duration<double>(kTroubleMax).count();
  misbehave(0, {.refuse = 1, .seconds = longest});
  misbehave(1, {.hang = 1, .seconds = longest});
  misbehave(2, {.error500 = 1, .seconds = longest});
  trouble_since_ = Clock::now();
  http_post(stage_.options().players_url, "/" + name_of(3) + "/reboot", "");
  screen_.say("p1 drops connections, p2 hangs, p3 answers 500, p4 reboots and forgets its song.");

  stage_.crash_worker();
  crashed_ = Clock::now();
  screen_.say(
      "One of two workers is killed (kill -9). The other one takes its lanes over when its lease "
      "runs out.");
  declare(1, "Somebody declares another song for each player.");
}

void Story::end_trouble() {
  if (!trouble_since_ || Clock::now() - *trouble_since_ < kTroubleMin) return;
  try {
    const nlohmann::json requests = stage_.requests();
    for (const char* kind : {"refused", "hung", "error500"}) {
      if (requests.at(kind) == 0) return;
    }
    for (std::size_t index = 0; index < 3; ++index) misbehave(index, {});
  } catch (const std::runtime_error&) {
    return;  // the players were slow to answer; the next look will tell
  }
  trouble_since_.reset();
}

void Story::power_cut() {
  screen_.say("Power cut: the process of all players is killed and started again, all silent.");
  stage_.cut_power();
}

// Acts, then looks until every player is as declared.
bool Story::play(const std::string& name, const std::function<void()>& action) {
  Scene scene{.name = name};
  const auto scene_began = Clock::now();
  screen_.say("");
  action();
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock lock(mutex);
  while (!stop_.stop_requested() && Clock::now() - began_ < options_.timeout) {
    scene.converged = look(scene_began);
    scene.seconds = seconds_since(scene_began);
    if (scene.converged) break;
    stage_.check();
    woken.wait_for(lock, stop_, std::chrono::milliseconds(100), [] { return false; });
  }
  // For those who watch: the picture is gone with the next scene.
  if (screen_.terminal()) {
    woken.wait_for(lock, stop_, std::chrono::milliseconds(1500), [] { return false; });
  }
  scenes_.push_back(scene);
  return scene.converged;
}

bool Story::look(Clock::time_point scene_began) {
  end_trouble();
  if (crashed_ != Clock::time_point{} && !take_over_seconds_ && stage_.lanes().second == 64) {
    take_over_seconds_ = seconds_since(crashed_);
  }
  try {
    players_ = look_at_players(stage_.bucket(), stage_.desired(), stage_.options().players_url);
  } catch (const dmm::Error& e) {
    if (e.kind() != dmm::Kind::retry) throw;
    return false;  // the next look will tell
  }
  screen_.show(players_, seconds_since(scene_began));
  return players_.size() >= options_.players &&
         std::all_of(players_.begin(), players_.end(), [](const auto& p) { return p.converged(); });
}

nlohmann::json Story::summary() {
  const bool converged =
      scenes_.size() == 3 &&
      std::all_of(scenes_.begin(), scenes_.end(), [](const auto& s) { return s.converged; });
  nlohmann::json summary = {{"converged", converged},
                            {"style", options_.style},
                            {"desired", stage_.options().desired},
                            {"players", players_.size()},
                            {"seconds", seconds_since(began_)},
                            {"scenes", scenes_},
                            {"take_over_seconds", nlohmann::json()},
                            {"requests", stage_.requests()},
                            {"second_worker", stage_.finish_worker()},
                            {"not_converged", nlohmann::json::array()}};
  if (take_over_seconds_) summary["take_over_seconds"] = *take_over_seconds_;
  for (const PlayerView& player : players_) {
    if (!player.converged()) summary["not_converged"].push_back(player);
  }
  return summary;
}

void Story::print_summary(const nlohmann::json& summary) {
  screen_.say("\nWhat happened");
  for (const Scene& scene : scenes_) {
    screen_.say(fmt::format("  {:<10} {} after {:.2f} s", scene.name,
                            scene.converged ? "converged" : "NOT converged", scene.seconds));
  }
  if (take_over_seconds_) {
    screen_.say(fmt::format("  the other worker had all lanes {:.2f} s after the kill -9",
                            *take_over_seconds_));
  }
  const auto count = [](const nlohmann::json& counts, const char* name) {
    return counts.value(name, std::uint64_t{0});
  };
  const auto& requests = summary.at("requests");
  screen_.say(
      fmt::format("  players answered {} requests, dropped {}, let {} hang and answered 500 to {}",
                  count(requests, "answered"), count(requests, "refused"), count(requests, "hung"),
                  count(requests, "error500")));
  const auto& worker = summary.at("second_worker");
  screen_.say(fmt::format("  the second worker ran {} materializes: {} succeeded, {} were retried",
                          count(worker, "runs"), count(worker, "succeeded"),
                          count(worker, "failed")));
}

void print_next_steps(Screen& screen, const std::string& program) {
  screen.say("\nWhat to type next: the same by hand, each line in a terminal of its own");
  screen.say(fmt::format(
      "  {} demo --keep              the stage stays up, and says how to reach it", program));
  screen.say(
      fmt::format("  {} debug                    all players; `debug p2`: all about one", program));
  screen.say(fmt::format("  {} set p2 'Naima'           declares another song", program));
  screen.say(
      fmt::format("  {} misbehave p2 --hang 1    breaks a player; --hang 0 mends it", program));
}

}  // namespace

int demo(const Options& options, const DemoOptions& demo_options, std::stop_token stop) {
  // With -o json the summary has standard output to itself.
  Screen screen(options.json ? stderr : stdout);
  screen.say(fmt::format("Starting nats-server{}, {} players and 2 workers ({} style)...",
                         options.desired == "postgres" ? " and PostgreSQL" : "",
                         demo_options.players, demo_options.style));
  Stage stage(options, demo_options);
  Story story(stage, screen, demo_options, stop);
  const bool converged = story.tell();

  if (converged && demo_options.keep) {
    screen.say("\nThe stage stays up until Ctrl-C. To reach it from another terminal, type there:");
    for (const std::string& line : stage.environment()) screen.say("  " + line);
    std::mutex mutex;
    std::condition_variable_any woken;
    std::unique_lock lock(mutex);
    woken.wait(lock, stop, [] { return false; });
  }
  const nlohmann::json summary = story.summary();
  if (options.json) fmt::print("{}\n", summary.dump(2));
  story.print_summary(summary);
  if (!converged) {
    screen.say(stop.stop_requested()
                   ? "\nstopped before the end"
                   : fmt::format("\nNOT converged within {} s", demo_options.timeout.count()));
    return 1;
  }
  if (!demo_options.keep) print_next_steps(screen, demo_options.shown_as);
  return 0;
}

}  // namespace example
