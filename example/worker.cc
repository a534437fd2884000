// The worker: what makes the players play what was declared. The two materializers are the heart of
// the example; all the rest of it is the world around them.

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "dmm/json.h"
#include "example/commands.h"
#include "example/desired.h"
#include "example/player.h"

namespace example {
namespace {

// What the materializers work with. They cannot hold it: a materializer is its cache object, made
// anew for every run. Set before the first run.
struct World {
  DesiredSongs* desired = nullptr;
  std::string players_url;
  bool by_command = false;
  std::chrono::milliseconds check_every{};
} world;

// The ways to a player: call it, or where nobody can call it, command it over the connection that
// it keeps. If a player is not connected, get() throws, and dmm waits for the player's next report.
std::string ask_song(dmm::Context& context, const std::string& player) {
  if (!world.by_command) return Player(world.players_url, player).current_song();
  return context.command("player", player, {{"current_song", nullptr}}, kPlayerTimeout)
      .get()
      .at("current_song");
}

void play(dmm::Context& context, const std::string& player, const std::string& song) {
  if (!world.by_command) return Player(world.players_url, player).play(song);
  context.command("player", player, {{"play", song}}, kPlayerTimeout).get();
}

// Pull: materialize asks the player. It needs nothing from the cache, so a lost cache costs
// nothing; but it has to ask again and again, because nobody says when a player forgets its song.
struct PullPlayer {
  std::string id;
  std::string current_song;

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }

  dmm::Outcome materialize(dmm::Context& context) {
    const auto desired_song = world.desired->find(id);
    if (!desired_song) return dmm::Outcome::done();  // not ours to touch

    current_song = ask_song(context, id);
    if (current_song != *desired_song) {
      play(context, id, *desired_song);
      current_song = *desired_song;
    }
    return dmm::Outcome::requeue_after(world.check_every);
  }

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(PullPlayer, id, current_song)
};

// Push: the player reports its state, observe() puts it into the cache, materialize looks there.
// Where the cache is lost, the comparison fails and a `play` is sent that was perhaps not needed.
struct PushPlayer {
  std::string id;
  std::string current_song;

  std::string identity() const { return id; }
  void set_identity(std::string name) { id = std::move(name); }

  void materialize(dmm::Context& context) {
    const auto desired_song = world.desired->find(id);
    if (!desired_song || current_song == *desired_song) return;

    play(context, id, *desired_song);
    current_song = *desired_song;  // spares a second call; the next report overrides it
  }

  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(PushPlayer, id, current_song)
};

struct Report {
  std::string current_song;

  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Report, current_song)
};

void observe(dmm::ObserveContext& context, const Report& report) {
  auto cache = context.matter<PushPlayer>(context.device());
  if (report.current_song != cache.current_song) {
    cache.current_song = report.current_song;
    context.notify(cache);  // replaces the cache and makes sure that materialize runs
  }
}

// Desired songs can change without our being told: someone edits the table, or dies between the
// commit and the poke, or the JetStream store is lost. So compare all of them now and then, and
// poke those that are neither settled on the right song nor being worked on.
void resync(dmm::Bucket& bucket, DesiredSongs& desired) {
  std::map<std::string, dmm::Matter> known;
  for (dmm::Matter& matter : bucket.inspect().list("player", /*values=*/true)) {
    known.emplace(matter.identity.id, std::move(matter));
  }
  for (const auto& [player, song] : desired.all()) {
    const auto found = known.find(player);
    if (found != known.end()) {
      const dmm::Matter& matter = found->second;
      if (matter.phase != dmm::Phase::settled) continue;
      const auto cache = dmm::parse_json(matter.effective.value_or("null"));
      if (cache && cache.value().is_object() &&
          cache.value().value("current_song", nlohmann::json()) == song) {
        continue;
      }
    }
    bucket.poke(player_identity(player));
  }
}

void resync_until(std::stop_token stop, dmm::Bucket& bucket, DesiredSongs& desired,
                  const dmm::Logger& log) {
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    try {
      resync(bucket, desired);
    } catch (const std::exception& e) {
      log.warn("resync failed; it is repeated", {{"error", e.what()}});
    }
    woken.wait_for(lock, stop, std::chrono::seconds(5), [] { return false; });
  }
}

void print_stats(const Options& options, const dmm::WorkStats& stats) {
  if (options.json) {
    const nlohmann::json line = {{"runs", stats.runs},
                                 {"succeeded", stats.succeeded},
                                 {"failed", stats.failed},
                                 {"coalesced", stats.coalesced}};
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print("worked: {} runs, {} succeeded, {} failed and were retried\n", stats.runs,
               stats.succeeded, stats.failed);
  }
}

}  // namespace

int worker(const Options& options, const WorkerOptions& worker_options, std::stop_token stop) {
  dmm::Bucket bucket = open_bucket(options);
  const auto desired = open_desired(options, bucket);
  world = World{desired.get(), options.players_url, worker_options.reach == "command",
                worker_options.check_every};

  // Players are near and quick, so a failed one is tried again sooner than by default.
  dmm::WorkOptions work;
  work.timeout = std::chrono::seconds(10);
  work.backoff_first = std::chrono::milliseconds(200);
  work.backoff_max = std::chrono::seconds(5);

  const bool push = worker_options.style == "push";
  dmm::WorkStream& players = push ? bucket.register_type<PushPlayer>("player", work)
                                  : bucket.register_type<PullPlayer>("player", work);
  if (push) bucket.observe<Report>("player", observe);
  if (options.desired == "kv") register_kv_songs(bucket);

  fmt::print(stderr,
             "worker: {} style, players reached by {}, desired songs in {}, namespace {}; Ctrl-C "
             "stops it\n",
             worker_options.style, worker_options.reach, options.desired, bucket.ns());
  {
    const dmm::Logger log = dmm::Logger::standard(dmm::Level::warn);
    const std::jthread resyncer(
        [&](std::stop_token stop_resync) { resync_until(stop_resync, bucket, *desired, log); });
    bucket.work(stop);
  }
  print_stats(options, players.stats());
  return 0;
}

}  // namespace example
