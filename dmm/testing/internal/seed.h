#pragma once

#include <cstdint>
#include <optional>

namespace dmm::testing {

/// DMM_SEED of the environment; nothing if it is not set. Throws Error{invalid} DMM-0404 if it is
/// no number.
std::optional<std::uint64_t> seed_of_environment();

}  // namespace dmm::testing
