#pragma once

#include "dmm/connection_options.h"
#include "dmm/nats/handle.h"

namespace dmm::nats {

/// The options as libnats takes them, but for callbacks: reconnects for ever, and pings that see a
/// frozen server. Reads the files that `options` name. send_at_once: else what is sent waits up to
/// a millisecond for more. Throws Error DMM-0102, 0404.
OptionsHandle make_options(const ConnectionOptions& options, bool send_at_once);

/// Connects. `options` are for the message. Throws Error DMM-0101, 0102.
ConnectionHandle connect_with(const OptionsHandle& handle, const ConnectionOptions& options);

}  // namespace dmm::nats
