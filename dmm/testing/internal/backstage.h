#pragma once

#include "dmm/testing/internal/memory_connection.h"
#include "dmm/testing/memory_transport.h"

namespace dmm::testing {

/// The insides of a server and its connections, for simulations.
struct Backstage {
  static MemoryConnection& of(MemoryTransport& transport) { return *transport.connection_; }
  static MemoryCore& of(MemoryServer& server) { return *server.core_; }
};

}  // namespace dmm::testing
