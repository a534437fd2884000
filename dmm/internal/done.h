#pragma once

#include <chrono>
#include <string_view>

#include "dmm/wire.h"

namespace dmm::internal {

/// True if the run that stored an entry did the token.
///
/// A stream that lost its tail in a crash of the server counts on from there and keeps its creation
/// time, so that a sequence may come twice. But what an entry came from was stored before the
/// entry: a token that was stored later is another one. Both times are the server's; where it has
/// several clocks that differ, a token that is done may be taken for another one and costs a
/// superfluous run.
///
/// created        of the work stream, now.
/// token_stored   when the token was stored.
/// entry_stored   when the entry was.
inline bool is_done(const wire::Done& done, std::string_view created, Sequence token,
                    std::chrono::system_clock::time_point token_stored,
                    std::chrono::system_clock::time_point entry_stored) {
  return token_stored <= entry_stored && done.covers(created, token);
}

}  // namespace dmm::internal
