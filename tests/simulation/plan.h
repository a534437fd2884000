#pragma once

// A plan: what is done to a simulated fleet, and when. It is a list of steps that do not need each
// other, so that any of them can be left out to see what is to blame.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dmm::simulation {

using std::chrono::milliseconds;

enum class Deed : std::uint8_t {
  // What users do.
  notify,  ///< of job `what`
  report,  ///< of meter `what`
  want,    ///< another level of lamp `what`
  unwant,  ///< lamp `what` shall go
  // What happens to the worker in place `who`, for `time`.
  crash,      ///< it is killed, and another one begins behind `time`
  crash_at,   ///< the same, at the `what`th crash point from now on that is called `point`
  stop,       ///< it ends as by SIGTERM, and another one begins behind `time`
  pause,      ///< as by SIGSTOP
  partition,  ///< it cannot reach the server
  refuse,     ///< `what` calls fail
  in_doubt,   ///< `what` calls are done and look failed
  drop,       ///< `what` calls, or their answers, are lost
  delay,      ///< `what` calls, or their answers, take up to `time` longer
  jump,       ///< its system clock jumps by `time`, back if `what` is odd
  // What happens to the server.
  restart,    ///< all connections are lost and made again
  lose_work,  ///< the same, and the newest `what` messages are gone
  lose_reports,
  lose_cache,
  recreate_work  ///< another stream takes its place, empty
};

struct Step {
  milliseconds at{0};
  Deed deed = Deed::notify;
  std::uint32_t who = 0;
  std::uint32_t what = 0;
  milliseconds time{0};
  std::string point = {};
};

std::string to_string(const Step& step);

struct Plan {
  std::uint64_t seed = 0;
  std::uint32_t workers = 0;
  std::uint32_t jobs = 0;
  std::uint32_t meters = 0;  ///< devices that report; 0: there is no observer
  std::uint32_t lamps = 0;   ///< rows that are wanted; 0: there is no view
  milliseconds storm{0};
  std::vector<Step> steps;  ///< in order of time
};

/// What a plan must have.
struct Wishes {
  bool meters = false;
  bool lamps = false;
  bool losses = true;  ///< the server may lose what it has acknowledged
};

Plan make_plan(std::uint64_t seed, const Wishes& wishes);

/// The names of the crash points in the production code.
const std::vector<std::string>& crash_points();

}  // namespace dmm::simulation
