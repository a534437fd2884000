#pragma once

// Deliberate bugs, one or more for each promise, to see that the simulator sees. What a worker does
// to keep a promise is in what it says to the server, so the bugs lie in between: the production
// code has no hooks for them.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/transport/stream.h"

namespace dmm::simulation {

enum class Bug : std::uint8_t {
  none,
  drop_news,        ///< some tokens never reach the worker
  erase_newest,     ///< the token that lies there is deleted, not the one that was run
  no_lease,         ///< leases are written whoever holds them
  no_fence,         ///< entries are written whatever lies there
  run_twice,        ///< some tokens come back once they were done
  forget_attempts,  ///< who takes a lane does not see what is failing there
  hasty,            ///< who takes a lane does not see how long it has to wait
  backoff_first,    ///< news of what is failing wait as long as it would have
  shared_backoff,   ///< while an identity waits, news of all others wait as well
  forget_crashes,   ///< that a worker ended in a run is not written down
  cursor_first,     ///< the cursor is stored before the reports were handled
  view_silent,      ///< some changed rows are not told
  view_chatty,      ///< some rows are told twice
  half_loaded,      ///< what is wanted counts as loaded before it is
  remove_freely,    ///< the limit of removals is not read
  ignore_losses,    ///< nobody hears that a stream is another one
  leak_readers,     ///< each reading leaves a consumer behind
  forget_parked,    ///< who takes a lane does not see what is parked there
  lose_parked,      ///< the token of what is parked is deleted
  ignore_pauses,    ///< nobody hears of a pause
  ignore_policies,  ///< nobody hears of a policy
  snapshot_gap,     ///< who begins with a snapshot misses the first change behind it
  round_numbers,    ///< some numbers lose digits, depending on what else came
  unseeded,         ///< some calls fail by a chance that no seed decides
  mute,             ///< nothing that users say arrives
  give_up           ///< a worker ends when a call fails
};

std::string_view to_string(Bug bug) noexcept;
std::optional<Bug> bug_called(std::string_view name) noexcept;
const std::vector<Bug>& all_bugs();
/// The check that finds it, as Violation::promise calls it; a bug may break others too.
std::string_view broken_by(Bug bug) noexcept;
/// Lines for the help: a promise and its bugs each.
std::string bugs_by_promise();

/// `inner`, as a worker has it, with the bug; `inner` itself with none.
std::shared_ptr<transport::Transport> with_bug(std::shared_ptr<transport::Transport> inner,
                                               Bug bug);
/// The same, as a user has it.
std::shared_ptr<transport::Transport> with_bug_of_users(std::shared_ptr<transport::Transport> inner,
                                                        Bug bug);

}  // namespace dmm::simulation
