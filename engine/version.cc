#include "engine/version.h"

namespace dmm::engine {

std::string_view version() noexcept {
  return DMM_VERSION;
}

}  // namespace dmm::engine
