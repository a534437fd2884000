#pragma once

// The commands of the example. Each works until it is done or `stop` is requested, prints to
// standard output, returns the exit code, and throws what it cannot handle.

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>
#include <vector>

#include "example/misbehaviour.h"
#include "example/options.h"

namespace example {

/// A service: reads its own options, and takes the signals itself.
int worker(int argc, char** argv);

struct CreateOptions {
  std::string what;  ///< a number, for p1, p2, ...; or a player's name
  std::string song;  ///< empty: one of ours for each
};
int create(const Options& options, const CreateOptions& create_options);
int set_song(const Options& options, const std::string& player, const std::string& song);

struct DeviceOptions {
  std::size_t players = 12;        ///< p1, p2, ...
  std::vector<std::string> names;  ///< more players
  int port = 8180;                 ///< of 127.0.0.1
  std::chrono::milliseconds report_every{2000};
  Misbehaviour misbehaviour;  ///< of all of them
};
int device(const Options& options, const DeviceOptions& device_options, std::stop_token stop);

int misbehave(const Options& options, const std::string& player, const Misbehaviour& misbehaviour,
              bool reboot);

int debug(const Options& options, const std::string& player);

struct DemoOptions {
  std::string program;   ///< our own, to start the parts of the stage with
  std::string shown_as;  ///< what the user typed to start it
  std::string style = "push";
  std::string reach = "http";
  std::size_t players = 12;
  std::chrono::seconds timeout{60};  ///< for the whole story
  bool keep = false;                 ///< stay up behind the story, until stopped
  std::size_t zones = 0;             ///< not 0: the story of a view of zones, instead
};
/// The story of players that a view joins with zones and their playlists.
int zones_demo(const Options& options, const DemoOptions& demo_options, std::stop_token stop);
int demo(const Options& options, const DemoOptions& demo_options, std::stop_token stop);

}  // namespace example
