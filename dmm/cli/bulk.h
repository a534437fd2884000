#pragma once

// The same done to many identities, with a progress bar.

#include <functional>
#include <string_view>
#include <vector>

#include "dmm/cli/session.h"
#include "dmm/inspect.h"

namespace dmm::cli {

/// "player/kitchen", fit for a terminal.
std::string name_of(const Identity& identity);

/// Does `one` to each; what fails for one is told and counted, what hinders all (Kind::retry) is
/// thrown. Throws Interrupted.
/// done      what was done, for the bar and for messages: "notified".
/// returns   how many failed.
std::size_t do_to_all(Session& session, std::string_view done, const std::vector<Matter>& matters,
                      const std::function<void(const Matter&)>& one);

}  // namespace dmm::cli
