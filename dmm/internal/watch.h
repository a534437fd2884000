#pragma once

#include <functional>
#include <stop_token>
#include <string_view>

#include "dmm/inspect.h"
#include "dmm/internal/streams.h"

namespace dmm::internal {

/// Calls `visit`, on the thread of the call, for every change of the namespace from now on, in the
/// order of each stream, until `stop`. What `visit` throws ends the watch and is passed on.
/// type   of identities and kind of reports; empty means all.
/// Throws Error{invalid} DMM-0201 for a bad type.
void watch(const Streams& streams, std::string_view type, const std::stop_token& stop,
           const std::function<void(const Change&)>& visit);

/// As Inspector::watch_parked().
void watch_parked(const Streams& streams, std::string_view type, const std::stop_token& stop,
                  const std::function<void(const Change&)>& visit);

}  // namespace dmm::internal
