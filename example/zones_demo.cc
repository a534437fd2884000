// The demo of zones: players joined with the zones that they stand in and the playlists of these
// zones. One playlist is changed, and exactly the players of its zone are touched.

#include <fmt/format.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "dmm/testing/free_port.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "example/commands.h"
#include "example/overview.h"
#include "example/player.h"
#include "example/zones.h"

namespace example {
namespace {

// What a run needs beside its cache, and where it notes that it was there.
struct Surroundings {
  std::string players_url;
  std::mutex mutex;
  std::set<std::string> touched;  // players whose materializer ran
} surroundings;

std::set<std::string> take_touched() {
  const std::lock_guard lock(surroundings.mutex);
  return std::exchange(surroundings.touched, {});
}

// Its cache is the row of the view: what it shall play, and what it said that it plays.
struct ZonePlayer {
  std::string id, zone, song, current_song;

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }

  void materialize(dmm::Context& context) {
    {
      const std::lock_guard lock(surroundings.mutex);
      surroundings.touched.insert(id);
    }
    if (context.deleted() || current_song == song) return;
    Player(surroundings.players_url, id).play(song);
  }

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(ZonePlayer, id, zone, song, current_song)
};

class ZoneStory final {
 public:
  ZoneStory(Options options, const DemoOptions& demo_options, std::stop_token stop)
      : options_(std::move(options)), demo_options_(demo_options), stop_(std::move(stop)) {
    options_.nats = {};
    options_.nats.servers = {nats_.url()};
    if (options_.desired == "postgres") {
      postgres_.emplace();
      options_.postgres = postgres_->connection_string();
    }
    const int port = dmm::testing::free_port();
    options_.players_url = surroundings.players_url = fmt::format("http://127.0.0.1:{}", port);
    bucket_.emplace(open_bucket(options_));
    zones_ = open_zones(options_, *bucket_);
    bucket_->register_type<ZonePlayer>("player");
    view_ = &bucket_->view<ZonePlayer>(zones_view(zones_->inputs()));
    device_ = std::jthread([this, port](std::stop_token ends) {
      DeviceOptions fleet;
      fleet.players = demo_options_.players;
      fleet.port = port;
      fleet.report_every = std::chrono::seconds(1);
      guard("the device", [&] { device(options_, fleet, std::move(ends)); });
    });
    worker_ = std::jthread([this](std::stop_token ends) {
      guard("the worker", [&] { bucket_->work(std::move(ends)); });
    });
  }

  nlohmann::json tell();

 private:
  std::string player(std::size_t i) const { return fmt::format("p{}", i + 1); }
  std::string zone_of(std::size_t i) const {
    return fmt::format("z{}", i % demo_options_.zones + 1);
  }
  std::map<std::string, std::string> desired() const {
    std::map<std::string, std::string> songs;
    for (std::size_t i = 0; i < demo_options_.players; ++i)
      songs[player(i)] = songs_.at(zone_of(i));
    return songs;
  }
  // What ends a thread is said; the story then does not converge.
  template <class Action>
  static void guard(const char* who, Action action) {
    try {
      action();
    } catch (const std::exception& e) {
      fmt::print(stderr, "{} ended: {}\n", who, e.what());
    }
  }
  bool settled();
  bool wait_settled();
  void say(const std::string& text) const {
    fmt::print(options_.json ? stderr : stdout, "{}\n", text);
  }

  Options options_;
  const DemoOptions demo_options_;
  const std::stop_token stop_;
  dmm::testing::NatsServer nats_;
  std::optional<dmm::testing::PostgresServer> postgres_;
  std::optional<dmm::Bucket> bucket_;
  std::unique_ptr<Zones> zones_;
  dmm::ViewStream* view_ = nullptr;
  std::map<std::string, std::string> songs_;  ///< zone -> song
  std::jthread device_;
  std::jthread worker_;
};

// Every player plays the song of its zone, has said so, and nothing is left to do.
bool ZoneStory::settled() {
  const auto playing = songs_playing(options_.players_url);
  if (!playing || *playing != desired() || view_->stats().sending != 0) return false;
  std::size_t settled = 0;
  for (const dmm::Matter& matter : bucket_->inspect().list("player", /*values=*/true)) {
    if (matter.phase != dmm::Phase::settled || !matter.stored) return false;
    const auto cache = nlohmann::json::parse(*matter.stored);
    if (cache.at("song") != cache.at("current_song")) return false;
    ++settled;
  }
  return settled == demo_options_.players;
}

bool ZoneStory::wait_settled() {
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock lock(mutex);
  const auto end = std::chrono::steady_clock::now() + demo_options_.timeout;
  while (!stop_.stop_requested() && std::chrono::steady_clock::now() < end) {
    if (settled()) return true;
    woken.wait_for(lock, stop_, std::chrono::milliseconds(100), [] { return false; });
  }
  return false;
}

nlohmann::json ZoneStory::tell() {
  std::map<std::string, std::string> places;
  for (std::size_t i = 0; i < demo_options_.players; ++i) places[player(i)] = zone_of(i);
  for (const auto& [name, zone] : places) songs_[zone] = "the song of " + zone;
  say(fmt::format("{} players are placed in {} zones, and each zone gets a song.", places.size(),
                  songs_.size()));
  zones_->place(places);
  zones_->declare(songs_);
  nlohmann::json summary = {{"desired", options_.desired},
                            {"players", places.size()},
                            {"zones", songs_.size()},
                            {"converged", wait_settled()}};
  if (!summary["converged"]) return summary;

  const std::string zone = "z1";
  std::set<std::string> of_zone;
  for (const auto& [name, place] : places) {
    if (place == zone) of_zone.insert(name);
  }
  take_touched();
  const std::uint64_t before = view_->stats().notified;
  songs_[zone] = "another song";
  say(fmt::format("The song of {} is changed; {} players stand there.", zone, of_zone.size()));
  zones_->declare({{zone, songs_[zone]}});
  summary["converged"] = wait_settled();
  const std::set<std::string> touched = take_touched();
  summary["players_of_zone"] = of_zone;
  summary["touched"] = touched;
  summary["notified"] = view_->stats().notified - before;
  say(fmt::format(
      "{} players were touched{}, each twice: for the new song, and when it said that it plays it.",
      touched.size(), touched == of_zone ? ", exactly those" : ""));

  say("p1 reboots and forgets its song; its report changes its row.");
  http_post(options_.players_url, "/p1/reboot", "");
  summary["healed"] = wait_settled();
  summary["touched_by_reboot"] = take_touched();
  return summary;
}

}  // namespace

int zones_demo(const Options& options, const DemoOptions& demo_options, std::stop_token stop) {
  const nlohmann::json summary = ZoneStory(options, demo_options, std::move(stop)).tell();
  if (options.json) fmt::print("{}\n", summary.dump(2));
  const bool good = summary.value("converged", false) && summary.value("healed", false) &&
                    summary["touched"] == summary["players_of_zone"];
  if (!good && !options.json) fmt::print("NOT as it should be: {}\n", summary.dump());
  return good ? 0 : 1;
}

}  // namespace example
