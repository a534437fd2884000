#pragma once

// Policies and pauses as they lie in the status bucket. Their keys have three parts or more, so
// that no status of an identity has the same.
//
//   work.policy.<type>        {"rate": 5, ...}
//   work.state.<type>         {"in_force": {...}, "unsound": "...", "at": ...}, by the worker
//   work.pause.all            {"reason", "by", "at"}
//   work.pause.type.<type>
//   work.pause.id.<type>.<encoded id>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/control.h"
#include "dmm/internal/streams.h"

namespace dmm::internal {

inline constexpr std::string_view kControlFilter = "work.>";

std::string policy_key(std::string_view type);
std::string work_state_key(std::string_view type);
std::string pause_key(const PauseScope& scope);
/// The scope that a key names; nothing if it is not the key of a pause.
std::optional<PauseScope> parse_pause_key(std::string_view key);

/// The text of a policy as it is stored.
std::string policy_text(const Policy& policy);
/// Throws Error{invalid} DMM-0202, DMM-0209 for a value that is none.
Policy parse_policy(std::string_view text);
std::string pause_text(const Pause& pause);
/// A pause pauses, whatever else stands in it.
Pause parse_pause(PauseScope scope, const transport::Message& message);
/// unsound   why the policy that is set is not in force; empty: it is.
std::string work_state_text(const Policy& in_force, std::string_view unsound = {});

std::unique_ptr<Control> make_control(const Streams& streams);

}  // namespace dmm::internal
