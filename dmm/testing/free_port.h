#pragma once

#include <cstdint>

namespace dmm::testing {

/// A TCP port of 127.0.0.1 that nobody listens on now and that this process was not given before.
///
/// It lies below the range from which the system takes the ports of outgoing connections: a client
/// that keeps dialling a server that is down can neither take the server's port nor connect to
/// itself. Another program may still take it before it is used.
/// throws    Error{retry} DMM-0106 if none was found.
/// threads   any.
std::uint16_t free_port();

}  // namespace dmm::testing
