#pragma once

// The Informs of one kind: the materializer that runs its informer. Its identity is the kind; that
// it runs once at a time in the fleet, is taken over in seconds and comes back when it is due, is
// what lanes and dated tokens do for every materializer. What is due lies in the database.

#include "dmm/resource/works.h"

namespace dmm::resource::internal {

/// The materializer. The parts outlive it.
AnyMaterializer make_informs(HostParts& parts, AnyController controller, KindOptions options);

/// Notes what the host has of a kind: that it is there, and its schedules.
void register_kind(HostParts& parts, const AnyController& controller, const KindOptions& options);

}  // namespace dmm::resource::internal
