#pragma once

// Where a view stands, in the status bucket: `view.state.<name>`, written by its owner. What a
// person wants of its owner: `view.order.<name>`. Times are Unix milliseconds.

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
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ViewInfo, name, type, key, pipeline, release,
                                                rolled_out, rollout_told, rollout_failing, stopped,
                                                digest, epoch, loaded, rows, notified, removed,
                                                refused, stale, sending, twice, without_key, held,
                                                held_reason, held_some, doubt, history, snapshot_at,
                                                cold_because, at, inputs)

}  // namespace dmm

namespace dmm::view {

struct Order {
  std::string what;            ///< "approve" or "rebuild"
  std::uint64_t removals = 0;  ///< approve: at most so many of what is held
  std::int64_t at = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Order, what, removals, at)

std::string state_key(std::string_view view);
std::string order_key(std::string_view view);

std::optional<ViewInfo> parse_state(const transport::Message& message);
/// Nothing for a removed one or anything else that is none.
std::optional<Order> parse_order(const transport::Message& message);

/// The state of a view as last written; nothing if there is none, or it is not one.
std::optional<ViewInfo> load_state(const internal::Streams& streams, std::string_view view);
/// Of all views of the namespace, by name.
std::vector<ViewInfo> load_states(const internal::Streams& streams);

/// Writes that at most `removals` may go. Blocks. Throws Error{not_found} DMM-0605 if nothing is
/// held, or more than that.
void order_approval(const internal::Streams& streams, std::string_view view,
                    std::uint64_t removals);
/// Writes that the view is to be computed anew. Blocks.
void order_rebuild(const internal::Streams& streams, std::string_view view);

}  // namespace dmm::view
