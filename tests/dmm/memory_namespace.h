#pragma once

#include <memory>
#include <string>

#include "dmm/internal/streams.h"
#include "dmm/testing/memory_transport.h"

namespace dmm::testing {

/// When the streams of a MemoryNamespace were created.
inline constexpr const char* kCreated = "2024-01-01T00:00:00Z";

/// The streams of a namespace in memory, for tests of the parts that work on them. One that goes
/// missing is not created again.
struct MemoryNamespace {
  explicit MemoryNamespace(const std::string& ns = "music");

  std::shared_ptr<MemoryTransport> transport = MemoryTransport::create();
  internal::Streams streams;
  std::shared_ptr<MemoryStream> work, cache, reports, status, leases;
};

}  // namespace dmm::testing
