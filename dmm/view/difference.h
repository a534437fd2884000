#pragma once

#include <functional>
#include <string>

#include "dmm/internal/streams.h"
#include "dmm/view/rows.h"

namespace dmm::view {

/// The value of the Dmm-View header: which view, and which pipeline of it.
std::string view_header(std::string_view name, std::string_view pipeline_hash);

/// Compares the rows with the effective caches of their type: `told` of each slot becomes the row
/// where the cache says the same, null where it does not; an identity of this view that has no row
/// gets a slot that was told what lies in the cache; one of another view is marked as foreign.
/// Blocks while tokens and entries are read. Throws Error{retry}.
/// differs   called for each row whose identity has an effective cache that says something else.
using Differs = std::function<void(const std::string& id, const engine::Value& effective)>;
void compare_with_cache(const internal::Streams& streams, const std::string& view,
                        const std::string& type, Rows& rows, const Differs& differs = {});

}  // namespace dmm::view
