#pragma once

// The overview: what is desired, what dmm believes, what is; of every player, side by side.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dmm/bucket.h"
#include "dmm/inspect.h"
#include "example/desired.h"

namespace example {

struct PlayerView {
  std::string name;
  std::optional<std::string> desired;  ///< nothing: not declared
  std::optional<std::string> cached;   ///< `current_song` of the effective cache
  std::optional<std::string> playing;  ///< nothing: the player was not found
  std::optional<dmm::Phase> phase;     ///< nothing: dmm has never heard of it
  int attempts = 0;
  std::string error;  ///< of the last attempt, if it failed

  /// What was declared is what is, and dmm knows it. Always true of a player that nobody declared.
  bool converged() const {
    return !desired || (playing == desired && cached == desired && attempts == 0);
  }
};
void to_json(nlohmann::json& json, const PlayerView& view);

/// What the fleet at `players_url` plays: player -> song. Nothing if it does not answer.
std::optional<std::map<std::string, std::string>> songs_playing(const std::string& players_url);

/// Every player that was declared or has a cache, in natural order (p2 before p10).
std::vector<PlayerView> look_at_players(dmm::Bucket& bucket, DesiredSongs& desired,
                                        const std::string& players_url);

/// A table of lines without line ends, each at most `width` characters.
std::vector<std::string> table_of(const std::vector<PlayerView>& players, std::size_t width);

}  // namespace example
