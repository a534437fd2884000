#pragma once

#include <cstdint>
#include <string>

#include "dmm/resource/object.h"

namespace dmm::resource {

/// What the storm informs: a name with a version.
struct Thing {
  std::string name;
  std::int64_t version = 0;

  std::string id() const { return name; }
  static std::string kind() { return "thing"; }
  std::int64_t compare(const Thing& stored) const { return version - stored.version; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Thing, name, version)

}  // namespace dmm::resource
