#include "dmm/cli/error_pattern.h"

#include <fmt/format.h>

#include <algorithm>

#include "dmm/cli/session.h"
#include "dmm/limits.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kPatternBytesMax = 1'000;

}  // namespace

ErrorPattern::ErrorPattern(const std::string& text) : all_(text.empty()) {
  if (all_) return;
  if (text.size() > kPatternBytesMax) throw UsageError("--error is too long");
  try {
    pattern_.assign(text, std::regex::ECMAScript | std::regex::icase);
  } catch (const std::regex_error& error) {
    throw UsageError(fmt::format("--error is no regular expression: {}", error.what()));
  }
}

bool ErrorPattern::matches(const std::string& error) const {
  if (all_) return true;
  // A search takes stack for each byte that it looks at, and anyone may have written the text.
  const auto end = error.begin() + static_cast<std::ptrdiff_t>(
                                       std::min(error.size(), limits::error_text_bytes_max));
  return std::regex_search(error.begin(), end, pattern_);
}

}  // namespace dmm::cli
