#pragma once

#include <string>

#include "dmm/internal/status.h"
#include "dmm/internal/streams.h"

namespace dmm::internal {

/// Tells whoever listens on dmm.<ns>.event.parked.<type>.<id> that an identity was parked: its
/// status, and in the header Dmm-Revision where that is stored. Best effort: not stored, and lost
/// where there is no connection.
///
/// key   "<type>.<encoded id>"
void tell_parked(const Streams& streams, const std::string& key, const Status& status,
                 Sequence revision) noexcept;

/// The same on dmm.<ns>.event.refused.<what> of a message that could not be read.
void tell_refused(const Streams& streams, const Refusal& refusal, Sequence revision) noexcept;

}  // namespace dmm::internal
