#include <fmt/format.h>

#include <array>
#include <stdexcept>

#include "dmm/json.h"
#include "example/commands.h"
#include "example/desired.h"
#include "example/player.h"

namespace example {
namespace {

constexpr std::size_t kPlayersMax = 10'000;
constexpr std::size_t kSongBytesMax = 200;

constexpr std::array kSongs = {"So What", "Blue in Green", "Take Five",      "Blue Rondo",
                               "Naima",   "Giant Steps",   "Round Midnight", "Straight No Chaser"};

void check_song(const std::string& song) {
  // A song travels as JSON text and is shown on terminals: valid UTF-8 without control characters,
  // which is what printable() leaves alone.
  if (song.empty() || song.size() > kSongBytesMax ||
      dmm::printable(song, kSongBytesMax + 1) != song) {
    throw std::runtime_error(fmt::format("'{}' cannot be a song: use 1 to {} bytes of text",
                                         dmm::printable(song, 80), kSongBytesMax));
  }
}

// "12" is p1 to p12; anything else is a player's name.
std::vector<std::string> names_of(const std::string& what) {
  if (what.empty() || what.find_first_not_of("0123456789") != std::string::npos) {
    check_player_name(what);
    return {what};
  }
  const std::size_t count = what.size() > 6 ? kPlayersMax + 1 : std::stoul(what);
  if (count < 1 || count > kPlayersMax) {
    throw std::runtime_error(fmt::format("create 1 to {} players at a time", kPlayersMax));
  }
  std::vector<std::string> names;
  for (std::size_t i = 1; i <= count; ++i) names.push_back(fmt::format("p{}", i));
  return names;
}

}  // namespace

int create(const Options& options, const CreateOptions& create_options) {
  std::map<std::string, std::string> songs;
  std::size_t next = 0;
  if (!create_options.song.empty()) check_song(create_options.song);
  for (const std::string& name : names_of(create_options.what)) {
    songs[name] =
        create_options.song.empty() ? kSongs[next++ % kSongs.size()] : create_options.song;
  }
  dmm::Bucket bucket = open_bucket(options);
  open_desired(options, bucket)->declare(songs);
  fmt::print("declared the songs of {} {}; see them with: example debug\n", songs.size(),
             songs.size() == 1 ? "player" : "players");
  return 0;
}

int set_song(const Options& options, const std::string& player, const std::string& song) {
  check_player_name(player);
  check_song(song);
  dmm::Bucket bucket = open_bucket(options);
  open_desired(options, bucket)->declare({{player, song}});
  fmt::print("{} shall play {}\n", player, song);
  return 0;
}

}  // namespace example
