#pragma once

#include <regex>
#include <string>

namespace dmm::cli {

/// The regular expression of an option --error, looked for in any case.
class ErrorPattern final {
 public:
  /// text   empty: it matches everything. Throws UsageError for one that is none, or too long.
  explicit ErrorPattern(const std::string& text);

  bool matches(const std::string& error) const;

 private:
  const bool all_;
  std::regex pattern_;
};

}  // namespace dmm::cli
