// How to debug: look at what is desired, at what dmm believes, and at the world, in that order. The
// first two that differ say where to look further.

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <stdexcept>

#include "dmm/json.h"
#include "example/commands.h"
#include "example/overview.h"
#include "example/player.h"

namespace example {
namespace {

constexpr std::size_t kAnyWidth = 500;

void line(const char* label, const std::string& text) {
  fmt::print("{:<16} {}\n", label, text);
}

std::string time_of(const std::optional<std::chrono::system_clock::time_point>& time) {
  if (!time) return "-";
  return fmt::format("{:%H:%M:%S} UTC", fmt::gmtime(*time));
}

// Asks the player itself, as a worker would.
std::string answer_of(const std::string& players_url, const std::string& name) {
  try {
    const std::string song = Player(players_url, name).current_song();
    return song.empty() ? "(silent)" : dmm::printable(song, 200);
  } catch (const std::exception& e) {
    return e.what();
  }
}

// What to do about it, for those who see this for the first time.
std::string advice(const std::optional<std::string>& desired,
                   const std::optional<dmm::Matter>& matter, bool lease_held) {
  if (!desired) return "nobody declared a song: example set PLAYER SONG";
  if (!lease_held) return "no worker works on players: start one with: example worker";
  if (!matter) return "no worker has run yet: wait a moment, then look at the worker's output";
  switch (matter->phase) {
    case dmm::Phase::settled:
      return "nothing: the last run succeeded and nothing is waiting";
    case dmm::Phase::waiting:
      return "nothing: a run is due or under way";
    case dmm::Phase::failing:
      return "mend what the error names; it is retried until it succeeds";
    case dmm::Phase::offline:
      return "start the player's device: example device; its next report runs it";
    case dmm::Phase::parked:
      return "mend what the error names, then bring news: example set";
  }
  return "";
}

int debug_one(const Options& options, dmm::Bucket& bucket, DesiredSongs& desired,
              const std::string& name) {
  const auto song = desired.find(name);
  const auto matter = bucket.inspect().get(player_identity(name));
  bool lease_held = false;
  std::string leases;
  for (const dmm::LeaseInfo& lease : bucket.inspect().leases()) {
    if (lease.name.find("work.player") == std::string::npos || lease.released) continue;
    lease_held = true;
    leases +=
        fmt::format("{}{}: {} lanes by {}, last beat {}", leases.empty() ? "" : "; ", lease.name,
                    lease.lanes.value_or(0), lease.holder, time_of(lease.last_beat));
  }
  line("desired song", song ? dmm::printable(*song) : "(none declared)");
  line("effective cache",
       matter && matter->effective ? dmm::printable(*matter->effective) : "(none)");
  line("the player says", answer_of(options.players_url, name));
  line("phase", matter ? std::string(dmm::to_string(matter->phase)) : "(unknown to dmm)");
  if (matter) {
    line("stored",
         fmt::format("revision {}, {}", matter->revision.value, time_of(matter->stored_at)));
    if (matter->token) {
      line("waiting token",
           fmt::format("sequence {}, {}", matter->token.value, time_of(matter->notified_at)));
    }
    if (matter->attempts > 0) {
      line("attempts",
           fmt::format("{}, next at {}", matter->attempts, time_of(matter->next_retry_at)));
      line("last error", fmt::format("{} {}", matter->error_code, dmm::printable(matter->error)));
    }
    if (!matter->damage.empty()) line("damage", dmm::printable(matter->damage));
  }
  for (const dmm::LastReport& report : bucket.inspect().reports("player")) {
    if (report.device != name) continue;
    line("last report", fmt::format("{}, {}", dmm::printable(report.state), time_of(report.at)));
  }
  line("lease", lease_held ? leases : "(nobody holds it)");
  line("what to do", advice(song, matter, lease_held));
  return 0;
}

}  // namespace

int debug(const Options& options, const std::string& player) {
  if (!player.empty()) check_player_name(player);
  dmm::Bucket bucket = open_bucket(options);
  const auto desired = open_desired(options, bucket);
  if (!player.empty() && !options.json) return debug_one(options, bucket, *desired, player);

  std::vector<PlayerView> players = look_at_players(bucket, *desired, options.players_url);
  if (!player.empty()) {
    std::erase_if(players, [&](const PlayerView& view) { return view.name != player; });
    if (players.empty()) throw std::runtime_error("nobody knows the player " + player);
  }
  if (options.json) {
    fmt::print("{}\n", nlohmann::json(players).dump(2));
    return 0;
  }
  if (players.empty()) {
    fmt::print("no players yet; declare some with: example create 12\n");
    return 0;
  }
  for (const std::string& text : table_of(players, kAnyWidth)) fmt::print("{}\n", text);
  if (!songs_playing(options.players_url)) {
    fmt::print("\nno players answer at {}; start them with: example device\n", options.players_url);
  }
  return 0;
}

}  // namespace example
