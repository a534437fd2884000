#include "example/overview.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "dmm/json.h"
#include "example/player.h"

namespace example {
namespace {

std::optional<std::string> cached_song(const dmm::Matter& matter) {
  if (!matter.effective) return std::nullopt;
  const auto cache = dmm::parse_json(*matter.effective);
  if (!cache || !cache.value().is_object()) return std::nullopt;
  const auto song = cache.value().find("current_song");
  if (song == cache.value().end() || !song->is_string()) return std::nullopt;
  return song->get<std::string>();
}

// Cuts text to `width` characters, not bytes, and never through one.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins_character = (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;
    if (begins_character && characters++ == width) return text.substr(0, i);
  }
  return text;
}

std::optional<std::string> phase_of(const PlayerView& view) {
  if (!view.phase) return std::nullopt;
  return std::string(dmm::to_string(*view.phase));
}

std::string shown(const std::optional<std::string>& song) {
  if (!song) return "?";
  return song->empty() ? "(silent)" : dmm::printable(*song, 80);
}

}  // namespace

void to_json(nlohmann::json& json, const PlayerView& view) {
  const auto or_null = [](const std::optional<std::string>& text) {
    return text ? nlohmann::json(*text) : nlohmann::json();
  };
  json = {{"player", view.name},
          {"desired", or_null(view.desired)},
          {"cached", or_null(view.cached)},
          {"playing", or_null(view.playing)},
          {"phase", or_null(phase_of(view))},
          {"attempts", view.attempts},
          {"error", view.error},
          {"converged", view.converged()}};
}

std::optional<std::map<std::string, std::string>> songs_playing(const std::string& players_url) {
  std::map<std::string, std::string> songs;
  try {
    const auto picture = nlohmann::json::parse(http_get(players_url, "/"));
    for (const auto& [name, player] : picture.at("players").items()) {
      songs[name] = player.at("current_song").get<std::string>();
    }
  } catch (const std::exception&) {
    return std::nullopt;  // an overview is wanted just when things are broken
  }
  return songs;
}

std::vector<PlayerView> look_at_players(dmm::Bucket& bucket, DesiredSongs& desired,
                                        const std::string& players_url) {
  std::map<std::string, PlayerView> views;
  for (const auto& [name, song] : desired.all()) views[name].desired = song;
  for (const dmm::Matter& matter : bucket.inspect().list("player", /*values=*/true)) {
    PlayerView& view = views[matter.identity.id];
    view.cached = cached_song(matter);
    view.phase = matter.phase;
    view.attempts = matter.attempts;
    view.error = matter.damage.empty() ? matter.error : matter.damage;
  }
  const auto playing = songs_playing(players_url);
  std::vector<PlayerView> players;
  for (auto& [name, view] : views) {
    view.name = name;
    if (playing) {
      if (const auto found = playing->find(name); found != playing->end()) {
        view.playing = found->second;
      }
    }
    players.push_back(std::move(view));
  }
  std::sort(players.begin(), players.end(), [](const PlayerView& a, const PlayerView& b) {
    return std::pair(a.name.size(), a.name) < std::pair(b.name.size(), b.name);
  });
  return players;
}

std::vector<std::string> table_of(const std::vector<PlayerView>& players, std::size_t width) {
  std::vector<std::array<std::string, 7>> rows = {
      {"PLAYER", "DESIRED", "CACHE", "PLAYING", "PHASE", "ATTEMPTS", "LAST ERROR"}};
  for (const PlayerView& player : players) {
    rows.push_back({player.name, player.desired ? shown(player.desired) : "(none)",
                    shown(player.cached), shown(player.playing), phase_of(player).value_or("-"),
                    player.attempts == 0 ? "" : fmt::to_string(player.attempts),
                    dmm::printable(player.error, 400)});
  }
  // fmt counts characters when it pads, so the columns stay straight with any song.
  std::array<std::size_t, 7> widths = {6, 18, 18, 18, 7, 8, 0};
  for (const auto& row : rows)
    widths[0] = std::min<std::size_t>(20, std::max(widths[0], row[0].size()));
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line +=
          i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", cut(row[i], widths[i]), widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(cut(line, width));
  }
  return lines;
}

}  // namespace example
