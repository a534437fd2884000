#pragma once

#include <span>
#include <string>
#include <string_view>

namespace dmm::text {

/// The candidate that a mistyped word most likely means: at most two edits away. Empty if there is
/// none. O(length of the word) for each candidate.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// "; did you mean WORD?", or nothing.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace dmm::text
