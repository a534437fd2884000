#pragma once

#include <memory>

#include "dmm/connection_options.h"
#include "dmm/log.h"
#include "dmm/transport/stream.h"

namespace dmm::nats {

/// Connects to NATS. Everything of JetStream is spoken over the core API and $JS.API: the JetStream
/// calls of libnats 3.4.1 are not safe (docs/decisions).
/// Throws Error DMM-0101, 0102, 0104, 0404.
std::shared_ptr<transport::Transport> connect(const ConnectionOptions& options, Logger log);

}  // namespace dmm::nats
