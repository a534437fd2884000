#pragma once

// What `-o json` shows. The field names stand in docs/reference/cli.md and stay; times are RFC 3339
// in UTC, null where there is none.

#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/inspect.h"
#include "dmm/view.h"

namespace dmm::cli {

/// values   with the effective and the stored value; `list` does not read them unless asked.
nlohmann::json document_of(const Matter& matter, bool values);
nlohmann::json document_of(const Failure& failure);
nlohmann::json document_of(const Refused& refused);
/// The inputs of a view: of each how fresh it is.
nlohmann::json documents_of(const std::vector<ViewInputInfo>& inputs);
nlohmann::json document_of(const ViewInfo& view);
nlohmann::json document_of(const LastReport& report);
nlohmann::json document_of(const LeaseInfo& lease);
nlohmann::json document_of(const Change& change);
nlohmann::json document_of(const Finding& finding);
nlohmann::json document_of(const transport::StreamState& stream);
nlohmann::json document_of(const transport::ServerFacts& server);

/// What a refused message is of: the type of a token, the kind of a report, the view that left a
/// row or a document out; empty if its subject names none.
std::string_view name_in(const Refused& refused);

/// The id or device as its owner spells it, behind its spelling on the wire; the spelling itself if
/// it is none.
std::string spelled_id(std::string_view token);

/// Sets `name` to the value of a JSON text, or to null with the text itself in `name`_text if it is
/// no JSON that dmm would take.
void set_value(nlohmann::json& document, const std::string& name, std::string_view text);

}  // namespace dmm::cli
