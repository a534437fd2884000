#pragma once

#include <string_view>

namespace dmm::engine {

/// The version of the engine library that is linked in, as "major.minor.patch".
std::string_view version() noexcept;

}  // namespace dmm::engine
