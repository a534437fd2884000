#pragma once

#include <span>
#include <string_view>

namespace dmm::testing {

/// The instants at which the end of a worker leaves work half done, by name: what
/// Worker::kill_at() takes.
std::span<const std::string_view> crash_points() noexcept;

}  // namespace dmm::testing
