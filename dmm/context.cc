#include "dmm/context.h"

#include <fmt/format.h>

#include <string_view>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::internal {

void throw_wrong_shape(const Identity& identity, const char* why) {
  std::string_view reason = why;
  // nlohmann begins with the name of its exception: "[json.exception.type_error.302] ".
  if (const std::size_t end = reason.find("] "); reason.starts_with('[') && end != reason.npos) {
    reason.remove_prefix(end + 2);
  }
  throw Error(code::wrong_shape, fmt::format("{}: {}", key_of(identity),
                                             printable(reason, limits::error_text_bytes_max)));
}

}  // namespace dmm::internal
