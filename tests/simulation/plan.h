#pragma once

// A plan: what is done to a simulated fleet, and when. It is a list of steps that do not need each
// other, so that any of them can be left out to see what is to blame.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dmm::simulation {

using std::chrono::milliseconds;

enum class Deed : std::uint8_t {
  // What users do.
  notify,  ///< of job `what`
  report,  ///< of meter `what`
  want,    ///< another level of lamp `what`
  unwant,  ///< lamp `what` shall go
  turn,    ///< notify valve `what`
  spoil,   ///< runs of valve `what` go as `Nature(who)` says, for `time`; 0: until the calm
  retry,   ///< have what is parked and could succeed run again
  hold,    ///< `point` is paused ("all", a type, or the key of an identity), for `time`
  limit,   ///< the policy of type `point` has `Setting(who)` at `what`, for `time`
  // What happens to the worker in place `who`, for `time`.
  crash,       ///< it is killed, and another one begins behind `time`
  crash_at,    ///< the same, at the `what`th crash point from now on that is called `point`
  stop,        ///< it ends as by SIGTERM, and another one begins behind `time`
  pause,       ///< as by SIGSTOP
  partition,   ///< it cannot reach the server
  refuse,      ///< `what` calls fail
  in_doubt,    ///< `what` calls are done and look failed
  drop,        ///< `what` calls, or their answers, are lost
  delay,       ///< `what` calls, or their answers, take up to `time` longer
  jump,        ///< its system clock jumps by `time`, back if `what` is odd
  spoil_disk,  ///< what was kept there is damaged in a way, by `what`, when the next one begins
  // What happens to the server.
  restart,    ///< all connections are lost and made again
  lose_work,  ///< the same, and the newest `what` messages are gone
  lose_reports,
  lose_cache,
  lose_status,
  lose_leases,
  recreate_work,  ///< another stream takes its place, empty
  recreate_reports,
  recreate_cache,
  recreate_status,
  recreate_leases
};

/// How the runs of a valve, or of a job on trial, end.
enum class Nature : std::uint8_t {
  good,     ///< as those of all others
  parks,    ///< by an outcome that parks
  fails,    ///< always, until its attempts are used up
  crashes,  ///< with their worker
  hangs     ///< longer than it may, and deaf to its stop token
};

/// What a policy sets.
enum class Setting : std::uint8_t { rate, concurrency, resync, backoff };

std::string_view name_of(Nature nature) noexcept;
/// As a policy calls it.
std::string_view name_of(Setting setting) noexcept;

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
  std::uint32_t valves = 0;  ///< identities that may be parked
  bool disks = false;        ///< places keep snapshots of views
  bool schedule = false;     ///< every job is run at an interval, at the end
  bool trials = false;       ///< jobs fail and hang, and what is wanted is lost, at the end
  std::uint32_t removals_free = 100;  ///< rows that may go without an approval
  milliseconds storm{0};
  std::vector<Step> steps;  ///< in order of time
};

/// What a plan must have.
struct Wishes {
  bool meters = false;
  bool lamps = false;
  bool valves = false;
  bool trials = false;
  bool holds = false;  ///< few rows may go without an approval
  bool losses = true;  ///< the server may lose what it has acknowledged
};

Plan make_plan(std::uint64_t seed, const Wishes& wishes);

/// The names of the crash points in the production code.
const std::vector<std::string>& crash_points();

}  // namespace dmm::simulation
