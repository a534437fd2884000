#pragma once

// A mark says which stream was seen, and how far: what has to be known to find out later whether
// it may be read on from there.

#include <string>

#include <nlohmann/json.hpp>

#include "dmm/transport/stream.h"

namespace dmm::view {

/// The stream at present. With one message a subject, deletions being messages as well, the number
/// of its messages never falls by itself.
nlohmann::json mark_of(const transport::StreamState& state);
/// The same of a stream whose messages go by themselves, as tokens do.
nlohmann::json mark_without_count(const transport::StreamState& state);

/// The last sequence that a mark names, zero if it names none.
Sequence last_of(const nlohmann::json& mark);
/// True if it can be compared with the present.
bool is_mark(const nlohmann::json& mark);

/// Why what is in the stream may not be all that should be; empty if nothing speaks for it, or
/// `before` is no mark.
std::string loss_since(const nlohmann::json& before, const transport::StreamState& now);

}  // namespace dmm::view
