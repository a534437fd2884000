#pragma once

#include <stop_token>

#include "dmm/internal/streams.h"

namespace dmm::downlink {

/// Answers the devices that ask for their shadow, until `stop`; one of the workers of a namespace
/// answers each. A device that cannot name a place for the answer (MQTT) gets it where it is told
/// its shadow. An empty answer: nothing is desired. Blocks, does not throw.
void serve_asks(const internal::Streams& streams, const std::stop_token& stop);

}  // namespace dmm::downlink
