// The worker: what makes the players play what was declared. The two materializers are the heart of
// the example; all the rest of it is the world around them.

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>

#include "dmm/json.h"
#include "dmm/service/service.h"
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

void print_stats(bool json, const dmm::WorkStats& stats) {
  if (json) {
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

void add_options(dmm::Service& service) {
  service.set_default("namespace", "music")
      .set_default("log-level", "warn")
      .set_default("connect-timeout", "0s")
      .option({.name = "style",
               .help = "pull: ask the players; push: believe their reports",
               .value = "pull",
               .shows = "STYLE",
               .choices = {"pull", "push"}})
      .option({.name = "reach",
               .help = "How players are told: over http, or by command (they may be behind NAT)",
               .value = "http",
               .shows = "WAY",
               .choices = {"http", "command"}})
      .option({.name = "check-every",
               .help = "pull: milliseconds between two questions",
               .value = "2000",
               .shows = "MS"})
      .option({.name = "desired",
               .help = "Where desired songs are: postgres or kv",
               .value = "postgres",
               .shows = "STORE",
               .environment = "MUSIC_DESIRED",
               .choices = {"postgres", "kv"}})
      .option({.name = "postgres",
               .help = "PostgreSQL, as libpq takes it",
               .value = Options().postgres,
               .shows = "URL",
               .environment = "MUSIC_POSTGRES"})
      .option({.name = "players-url",
               .help = "Where the players answer",
               .value = Options().players_url,
               .shows = "URL",
               .environment = "MUSIC_PLAYERS_URL"})
      .option({.name = "output",
               .help = "text or json",
               .value = "text",
               .shows = "FORMAT",
               .choices = {"text", "json"},
               .letter = 'o'})
      .option(
          {.name = "verbose", .help = "Log more, to standard error", .shows = "", .letter = 'v'});
}

// What lives as long as the service works.
struct Songs {
  std::unique_ptr<DesiredSongs> desired;
  dmm::Logger log;
  bool json = false;
  dmm::WorkStream* players = nullptr;
};

void set_up(dmm::Bucket& bucket, const dmm::ServiceConfig& config, Songs& songs) {
  songs.log = config.log;
  songs.json = config.text("output") == "json";
  if (config.is_on("verbose")) songs.log.set_level(dmm::Level::info);
  const bool kv = config.text("desired") == "kv";
  songs.desired = kv ? open_kv_songs(bucket) : open_postgres_songs(config.text("postgres"), bucket);
  const std::string& style = config.text("style");
  const std::string& reach = config.text("reach");
  const std::chrono::milliseconds check_every(config.number("check-every"));
  dmm::require(
      check_every >= std::chrono::milliseconds(100) && check_every <= std::chrono::hours(1),
      dmm::code::bad_option, "--check-every is not from 100 to 3600000");
  world = World{songs.desired.get(), config.text("players-url"), reach == "command", check_every};

  // Players are near and quick, so a failed one is tried again sooner than by default.
  dmm::WorkOptions work;
  work.timeout = std::chrono::seconds(10);
  work.backoff_first = std::chrono::milliseconds(200);
  work.backoff_max = std::chrono::seconds(5);

  const bool push = style == "push";
  songs.players = push ? &bucket.register_type<PushPlayer>("player", work)
                       : &bucket.register_type<PullPlayer>("player", work);
  if (push) bucket.observe<Report>("player", observe);
  if (kv) register_kv_songs(bucket);

  fmt::print(stderr,
             "worker: {} style, players reached by {}, desired songs in {}, namespace {}; Ctrl-C "
             "stops it\n",
             style, reach, config.text("desired"), bucket.ns());
}

}  // namespace

int worker(int argc, char** argv) {
  Songs songs;
  dmm::Service service("example worker");
  service.about("works on the music players until it is stopped")
      .example("example worker --style push --desired kv", "believe reports; no database")
      .example("curl http://127.0.0.1:9464/metrics", "what it counts, while it runs");
  add_options(service);
  service
      .beside([&songs](dmm::Bucket& bucket, std::stop_token stop) {
        resync_until(stop, bucket, *songs.desired, songs.log);
      })
      .at_end([&songs](dmm::Bucket&) { print_stats(songs.json, songs.players->stats()); });
  return service.run(argc, argv, [&songs](dmm::Bucket& bucket, const dmm::ServiceConfig& config) {
    set_up(bucket, config, songs);
  });
}

}  // namespace example
