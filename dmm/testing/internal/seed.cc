#include "dmm/testing/internal/seed.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "dmm/error.h"

namespace dmm::testing {

std::optional<std::uint64_t> seed_of_environment() {
  const char* const text = std::getenv("DMM_SEED");
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::uint64_t seed = 0;
  const char* const end = text + std::string_view(text).size();
  const auto [at, error] = std::from_chars(text, end, seed);
  require(error == std::errc() && at == end, code::bad_option,
          fmt::format("DMM_SEED is \"{}\", which is no number", text));
  return seed;
}

}  // namespace dmm::testing
