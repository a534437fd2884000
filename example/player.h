#pragma once

// A music player as the world sees it: an HTTP server that understands two requests.

#include <chrono>
#include <string>

namespace example {

/// How long a player may take to answer before it counts as broken.
inline constexpr std::chrono::seconds kPlayerTimeout{1};

/// Asks `base_url` for `path`. Returns the body of the answer.
/// Throws std::runtime_error, which says what was asked and what came back, unless that was 200.
std::string http_get(const std::string& base_url, const std::string& path);
/// The same with a body to send.
std::string http_post(const std::string& base_url, const std::string& path,
                      const std::string& body);

/// Throws std::runtime_error unless `name` may be a player's name: it becomes a part of a URL.
void check_player_name(const std::string& name);

/// Any thread. Each call is one request; throws std::runtime_error if the player does not do it.
class Player {
 public:
  /// base_url   for example http://127.0.0.1:8180; the player answers under /<name>/.
  Player(std::string base_url, std::string name)
      : base_url_(std::move(base_url)), name_(std::move(name)) {}

  /// The song that it plays now; empty if it is silent.
  std::string current_song() const { return http_get(base_url_, "/" + name_ + "/current_song"); }
  void play(const std::string& song) const { http_post(base_url_, "/" + name_ + "/play", song); }

 private:
  std::string base_url_;
  std::string name_;
};

}  // namespace example
