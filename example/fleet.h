#pragma once

// A Fleet is a number of music players that are real HTTP servers: one process, one port, each
// player under a path of its own.
//
// The same players also obey commands over NATS, as devices that nobody can call must:
// {"current_song": null} asks, {"play": "Naima"} tells; the answer is {"current_song": "Naima"}.
//
//   GET  /p7/current_song   the song that p7 plays; empty if it is silent
//   POST /p7/play           plays the song in the body
//   POST /p7/misbehave      {"refuse": 1.0, "hang": 0, "error500": 0, "seconds": 5}: see
//   misbehaviour.h POST /p7/reboot         loses its state: silent again GET  / for people and
//   tests: what all players really do
//
// Only current_song and play misbehave, over HTTP and by command alike. A player keeps its song in memory and nowhere else.

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "example/misbehaviour.h"

namespace example {

class Fleet final {
 public:
  /// everyone   how each player behaves until it is told otherwise.
  Fleet(const std::vector<std::string>& names, Misbehaviour everyone);
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;
  /// Stops answering.
  ~Fleet();

  /// Answers on this port of 127.0.0.1 (0: any) from now on. Returns the port.
  /// Throws std::runtime_error if the port is taken.
  int start(int port);

  /// Does what a command says to `player`. Called from any thread; while the player hangs, that long.
  /// Throws std::runtime_error with the reason if it does not do it.
  nlohmann::json obey(const std::string& player, const nlohmann::json& command);

  /// Waits until players have changed, and returns the absolute state of these; or until `every`
  /// has passed since all were returned, and returns all. Nothing when `stop` is requested. Called
  /// by one thread.
  std::vector<std::pair<std::string, nlohmann::json>> next_reports(std::stop_token stop,
                                                                   std::chrono::milliseconds every);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace example
