#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "dmm/cli/session.h"

namespace dmm::cli {

/// Does `once` again and again until Ctrl-C; on a terminal each time on a cleared screen, behind a
/// line that says what is shown. Passing trouble is told as an answer is, for the next one may be
/// better; what else `once` throws is passed on.
/// times     0: without end.
/// returns   an exit code.
int repeat(Session& session, const std::string& title, double every_s, std::uint64_t times,
           const std::function<void()>& once);

}  // namespace dmm::cli
