#pragma once

// How resources are written for the database and read from it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pqxx/pqxx>

#include "dmm/resource/client.h"

namespace dmm::resource::internal {

std::int64_t microseconds(Time time);
Time time_of(std::int64_t microseconds);
/// Of a column that may be NULL.
std::optional<Time> time_of(const pqxx::field& field);

/// A text as a JSON string.
std::string json_text(std::string_view text);
/// The members "ns", "kind" and "id".
std::string members_of(const Key& key);

/// The columns that resource_of() reads, of a table called r.
extern const std::string_view kResourceColumns;
AnyResource resource_of(const pqxx::row& row);
std::vector<WorkFailure> errors_of(const std::string& json);
std::vector<std::string> tags_of(const std::string& json);

/// What is sent of an object to dmm.inform.
struct Comparison {
  std::string verdict = {};  ///< "newer", "same" or "older"; empty: it was not compared
  std::int64_t expected =
      -1;  ///< the generation that it was compared with; -1: none was looked for
};
Key key_of_object(const AnyObject& object);
/// The text of its content. Throws Error{invalid} DMM-0803 if anything of it is wrong.
std::string checked_text(const AnyObject& object);
/// The members but "n".
std::string members_of(const AnyObject& object, const std::string& text,
                       const Comparison& comparison);
/// Compares with what is stored, in its content and generation. Throws what the object's comparison
/// throws.
Comparison compare(const AnyObject& object, std::int64_t generation, const std::string& stored);
/// The columns of dmm.inform.
extern const std::string_view kInformedColumns;
/// Nothing: somebody came between comparison and write.
std::optional<Informed> informed_of(const pqxx::row& row);

/// Brings objects in the transaction of the caller; see the function dmm.inform.
struct InformCall {
  bool listing = false;
  int skipped = 0;  ///< events to write for what is unchanged
};
std::vector<Informed> inform(pqxx::transaction_base& transaction,
                             std::span<const AnyObject> objects, const InformCall& call = {});

nlohmann::json to_json(const InformRequest& request);
InformRequest request_of(const nlohmann::json& options);

}  // namespace dmm::resource::internal
