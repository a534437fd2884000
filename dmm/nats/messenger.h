#pragma once

#include <memory>

#include "dmm/connection_options.h"
#include "dmm/log.h"
#include "dmm/transport/messenger.h"

namespace dmm::nats {

/// A messenger with a connection of its own, made when it is first used, so that talk with devices
/// neither waits for the streams nor holds them up. All its handlers are called on one thread.
/// send() and subscribe() throw Error DMM-0101, 0102 and others where the connection fails.
std::shared_ptr<transport::Messenger> make_messenger(const ConnectionOptions& options, Logger log);

}  // namespace dmm::nats
