#include "tests/dmm/memory_namespace.h"

namespace dmm::testing {

MemoryNamespace::MemoryNamespace(const std::string& ns)
    : streams{wire::Names(ns), {}, {}, {}, {}, {}, {}, Logger(), {}, {}} {
  const auto make = [&](Part part, const transport::StreamConfig& config) {
    transport->open(config, true);
    transport->stream(part)->lose_history(kCreated);
    return transport->stream(part);
  };
  streams.transport = transport;
  streams.work = work = make(Part::work, streams.names.work(1));
  streams.cache = cache = make(Part::cache, streams.names.cache(1));
  streams.reports = reports = make(Part::reports, streams.names.reports(1));
  streams.status = status = make(Part::status, streams.names.status(1));
  streams.leases = leases = make(Part::leases, streams.names.leases(1));
}

}  // namespace dmm::testing
