#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dmm::nemesis {

/// A defect of the worker of the scene, to see whether it is found.
enum class Bug {
  none,
  drop_news,  ///< some runs do nothing and say that they succeeded
  no_lease,   ///< the worker also runs what it reads while another owns it
  no_fence,   ///< the worker writes some entries a second later again, whatever is there by then
};

/// What the scene is to be and do.
struct Options {
  int seconds = 60;  ///< of faults; start, settling and the verdict come on top
  bool cluster = false;
  std::uint64_t seed = 0;
  Bug bug = Bug::none;
  int rate = 3'000;  ///< notifies wanted a second
  int identities = 640;
  std::uint64_t notifies_min = 0;  ///< 0: 100,000 a minute
  std::string json;
  std::string keep;  ///< a directory for histories and logs; empty: a temporary one
};

/// A process of the scene: this program, started again by itself.
struct Role {
  std::string name;  ///< "worker", "notifier"
  std::vector<std::string> servers;
  std::string directory;
  std::uint32_t number = 0;  ///< a worker's life, a notifier's place among them
  std::uint32_t of = 1;      ///< notifiers there are
  int identities = 0;
  int rate = 0;
  Bug bug = Bug::none;
};

std::string_view to_string(Bug bug) noexcept;

struct Arguments {
  Options options;
  std::optional<Role> role;
  bool help = false;
};

/// Throws std::invalid_argument with what is wrong.
Arguments parse_arguments(int argc, char** argv);

/// The arguments that make a process play the role.
std::vector<std::string> arguments_of(const Role& role);

std::string usage();

}  // namespace dmm::nemesis
