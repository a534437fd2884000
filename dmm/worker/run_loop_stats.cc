// What the run loop says of itself beyond its counters.

#include <algorithm>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/worker/run_loop.h"

namespace dmm::worker {

using std::chrono::system_clock;

void RunLoop::count_more() {
  ++stats_.turns;
  stats_.lanes_wanted = leases_.share();
  stats_.lane_set = 0;
  for (std::uint32_t number = 0; number < limits::lanes; ++number) {
    if (lanes_[number].ours) stats_.lane_set |= std::uint64_t{1} << number;
  }
  stats_.joined = leases_.joined();
  stats_.caught_up = all_caught_up();
  stats_.outstanding = items_.size();
  recount();
}

/// Looks at every identity, so it comes seldom where they are many.
void RunLoop::recount() {
  const auto begun = Clock::now();
  if (begun < next_recount_) return;
  const auto now = internal::SystemClock::now();
  stats_.parked_now = 0;
  stats_.oldest_token.reset();
  for (const auto& [key, item] : items_) {
    if (item->state == State::parked) {
      ++stats_.parked_now;
      continue;
    }
    const bool begun_already = item->current.sequence.value > 0;
    if (!begun_already && !item->token) continue;
    const Token& token = begun_already ? item->current : *item->token;
    // What is dated is not late before its date, nor is what nobody can reach.
    const auto since = std::max(token.stored_at, token.not_before);
    if (since > now) continue;
    if (item->state == State::waiting) {
      const internal::Status* status = statuses_.find(key);
      if (status != nullptr && status->phase == "offline") continue;
    }
    if (!stats_.oldest_token || since < *stats_.oldest_token) stats_.oldest_token = since;
  }
  const auto ended = Clock::now();
  next_recount_ = ended + std::max<Clock::duration>(limits::recount_interval,
                                                    (ended - begun) * limits::recount_share);
}

}  // namespace dmm::worker
