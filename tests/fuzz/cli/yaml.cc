// Whatever the text: refused with a place and a reason, or a value that the strict parser of JSON
// would take as well, within the same limits.
#include "dmm/text/yaml.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "dmm/error.h"
#include "dmm/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const dmm::text::YamlLimits limits{.bytes_max = 4'096, .depth_max = 16, .nodes_max = 1'000};
  try {
    const nlohmann::json value = dmm::text::parse_yaml(text, limits);
    // An escaped character is six bytes at most.
    const dmm::JsonLimits room{.bytes_max = 6 * limits.bytes_max + 10 * limits.nodes_max,
                               .depth_max = limits.depth_max};
    const auto again = dmm::parse_json(dmm::dump_json(value), room);
    if (!again || again.value() != value) std::abort();
  } catch (const dmm::Error& error) {
    if (error.kind() != dmm::Kind::invalid || error.message().empty()) std::abort();
  }
  return 0;
}
