#pragma once

// Deliberate bugs, one or more for each promise, to see that the simulator sees. What a worker does
// to keep a promise is in what it says to the server, so the bugs lie in between: the production
// code has no hooks for them.

#include <cstdint>
#include <memory>
#include <optional>
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
  cursor_first,     ///< the cursor is stored before the reports were handled
  view_silent,      ///< some changed rows are not told
  view_chatty,      ///< some rows are told twice
  leak_readers,     ///< each reading leaves a consumer behind
  forget_parked,    ///< who takes a lane does not see what is parked there
  lose_parked,      ///< the token of what is parked is deleted
  ignore_pauses,    ///< nobody hears of a pause
  ignore_policies,  ///< nobody hears of a policy
  snapshot_gap      ///< who begins with a snapshot misses the first change behind it
};

std::string_view to_string(Bug bug) noexcept;
std::optional<Bug> bug_called(std::string_view name) noexcept;
const std::vector<Bug>& all_bugs();
/// The promise that is broken by it, as Violation::promise calls it; a bug may break others too.
std::string_view broken_by(Bug bug) noexcept;

/// `inner` with the bug; `inner` itself with none.
std::shared_ptr<transport::Transport> with_bug(std::shared_ptr<transport::Transport> inner,
                                               Bug bug);

}  // namespace dmm::simulation
