#pragma once

// Which identities a verb is about, as its options say.

#include <memory>
#include <string>
#include <vector>

#include "dmm/cli/error_pattern.h"
#include "dmm/cli/human.h"
#include "dmm/inspect.h"

namespace CLI {
class App;
}

namespace dmm::cli {

/// Nothing given: all.
struct SelectionOptions {
  std::vector<std::string> phases;
  std::string code;
  std::string error;  ///< regular expression, in any case
  double older_than_s = 0;
  std::string sort = "id";

  bool any() const {
    return !phases.empty() || !code.empty() || !error.empty() || older_than_s > 0;
  }
};

/// Adds --phase, --code, --error and --older-than to a verb, and --sort if it lists.
void add_selection(CLI::App& verb, SelectionOptions& options, bool sorts);

/// Adds --older-than, in seconds or as 5m, 2h or 1d.
void add_older_than(CLI::App& verb, double& seconds);

/// Since when an identity stands as it does: since it was notified, failed, or was stored.
std::optional<Time> since(const Matter& matter);

class Selection final {
 public:
  /// options   outlive it. Throws UsageError.
  explicit Selection(const SelectionOptions& options);

  bool takes(const Matter& matter, Time now) const;
  /// Keeps what it takes, in the order that was asked for.
  void apply(std::vector<Matter>& matters) const;

 private:
  const SelectionOptions& options_;
  const ErrorPattern error_;
};

}  // namespace dmm::cli
