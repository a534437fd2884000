#pragma once

#include <string_view>

namespace dmm::testing {

/// NATS: "*" is any one token, ">" is one or more at the end.
bool subject_matches(std::string_view filter, std::string_view subject) noexcept;

}  // namespace dmm::testing
