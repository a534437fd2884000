#pragma once

// The Works of one kind: the materializer that takes a resource, has its controller work it, and
// stores how that went.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "dmm/materializer.h"
#include "dmm/resource/exchange.h"
#include "dmm/resource/host.h"
#include "dmm/resource/metrics.h"
#include "dmm/resource/sessions.h"

namespace dmm::resource::internal {

/// What the parts of a host share. Set once, before the first part works.
struct HostParts {
  Bucket& bucket;
  std::string connection;
  HostOptions options;
  Logger log;
  Client client;
  Sessions sessions;
  std::unique_ptr<Claims> claims = {};
  std::unique_ptr<Finishes> finishes = {};

  /// The program ends: what has not begun stays for others.
  std::atomic<bool> stopping{false};

  const std::shared_ptr<Counters> counters = std::make_shared<Counters>();
};

/// The materializer of a kind. The parts outlive it.
AnyMaterializer make_works(HostParts& parts, AnyController controller, KindOptions options);

}  // namespace dmm::resource::internal
