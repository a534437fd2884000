#pragma once

// What is asked of the parts of a resource before anything is written. All throw Error{invalid}
// DMM-0803 that names the part.

#include <cstddef>
#include <string>
#include <string_view>

#include "dmm/resource/resource.h"

namespace dmm::resource::internal {

void check_namespace(std::string_view ns);
void check_key(const Key& key);
/// All but the size of the content, which stored_text() finds.
void check_object(const AnyObject& object);
/// The text of a value as it is sent to the database.
std::string stored_text(const nlohmann::json& value, std::size_t bytes_max, std::string_view what);

}  // namespace dmm::resource::internal
