#pragma once

// The Upkeep of resources, three identities of one type, so that each is done once at a time in the
// fleet: "expire" and "clean" by the settings of namespaces, "rescue" for tokens that were lost.

#include "dmm/resource/works.h"

namespace dmm::resource::internal {

inline constexpr const char* kUpkeepType = "Resource-upkeep";
inline constexpr const char* kUpkeepIds[] = {"expire", "clean", "rescue"};

/// The materializer. The parts outlive it.
AnyMaterializer make_upkeep(HostParts& parts);

}  // namespace dmm::resource::internal
