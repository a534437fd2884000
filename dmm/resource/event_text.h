#pragma once

#include <optional>

#include "dmm/resource/events.h"
#include "dmm/transport/stream.h"

namespace dmm::resource::internal {

/// The event in a message of the stream; nothing if it is none: anybody may have written it. A time
/// beyond what a clock can say is the last that it can.
std::optional<Event> read_event(const transport::Message& message);

}  // namespace dmm::resource::internal
