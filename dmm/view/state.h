#pragma once

// Where a view stands, in the status bucket: `view.state.<name>`, written by its owner;
// `view.approve.<name>`, written by a person. Times are Unix milliseconds.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/internal/streams.h"
#include "dmm/view.h"

namespace dmm {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ViewInputInfo, name, description, rows, loaded,
                                                position, changed_at, baseline)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ViewInfo, name, type, key, pipeline, epoch, loaded,
                                                rows, notified, removed, refused, stale, sending,
                                                twice, without_key, held, held_reason, held_some,
                                                doubt, at, inputs)

}  // namespace dmm

namespace dmm::view {

/// A person says: go on with at most `removals` of what is held.
struct Approval {
  std::uint64_t removals = 0;
  std::int64_t at = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Approval, removals, at)

std::string state_key(std::string_view view);
std::string approval_key(std::string_view view);

/// The state of a view as last written; nothing if there is none, or it is not one.
std::optional<ViewInfo> load_state(const internal::Streams& streams, std::string_view view);
/// Of all views of the namespace, by name.
std::vector<ViewInfo> load_states(const internal::Streams& streams);

/// Writes that at most `removals` may go. Blocks. Throws Error{not_found} DMM-0605 if nothing is
/// held, or more than that.
void write_approval(const internal::Streams& streams, std::string_view view,
                    std::uint64_t removals);

/// A short text that changes when the pipeline, the key or the inputs change.
std::string pipeline_hash(const nlohmann::json& pipeline, std::string_view key);

}  // namespace dmm::view
