#pragma once

// Waiting for something to become true, with a deadline: what tests and tools use instead of sleep.

#include <chrono>
#include <functional>
#include <string_view>

namespace dmm::testing {

/// Calls `condition` every few milliseconds until it is true or `deadline` has passed since the
/// call.
/// returns   whether it became true. It is called at least once, and once more at the deadline.
/// threads   any; `condition` is called on the caller's.
bool becomes_true(const std::function<bool()>& condition, std::chrono::milliseconds deadline);

/// The same, for those who cannot go on without it.
/// what      what is waited for, as it reads after "waited 5000 ms for", for example
///           "the second run of player a".
/// throws    Error{retry} DMM-0103 that names `what`, when the deadline has passed; what
///           `condition` throws.
void wait_for(std::string_view what, const std::function<bool()>& condition,
              std::chrono::milliseconds deadline = std::chrono::seconds(10));

}  // namespace dmm::testing
