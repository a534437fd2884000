#pragma once

// How the work of types is done, changed while it is being done: policies and pauses. Both are kept
// in the namespace and followed by every worker at once; no program is restarted.

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dmm {

/// Settings of a type by name, for example {"rate", 5}: what is set comes before the WorkOptions of
/// the programs. Names, units and ranges: docs/reference/policies.md.
using Policy = std::map<std::string, double>;

/// A setting that a policy may have.
struct PolicySetting {
  std::string name;  ///< with its unit: "timeout_s"
  double least = 0;
  double most = 0;
  bool whole = false;  ///< only whole numbers
  std::string help;
  double above_zero = 0;  ///< nothing between 0, which means none, and this
};
const std::vector<PolicySetting>& policy_settings();

/// What is paused: an identity, a type, or, with an empty type, everything.
struct PauseScope {
  std::string type;
  std::optional<std::string> id;  ///< as its owner spells it

  friend bool operator==(const PauseScope&, const PauseScope&) = default;
};

/// While a scope is paused no run of it begins; those in flight end. Nothing is lost: news wait in
/// the stream as ever.
struct Pause {
  PauseScope scope;
  std::string reason;
  std::string by;  ///< who did it; "dmm" if a limit of failures was passed
  std::chrono::system_clock::time_point at;
};

/// What is known of how a type is worked.
struct TypeControl {
  std::string type;
  Policy set;           ///< in the namespace
  std::string unsound;  ///< not empty: what is set cannot be used, says its worker, or is none
  Policy in_force;      ///< as its worker last said; empty if none has been there
};

/// Thread-safe. Methods block and throw Error{retry} when the server does not answer.
class Control {
 public:
  virtual ~Control() = default;

  /// The types that have a policy or had a worker, by name.
  virtual std::vector<TypeControl> types() = 0;
  /// Replaces the policy of a type; an empty one removes it. Throws Error{invalid} DMM-0404 that
  /// names the setting, DMM-0201 for a bad type.
  virtual void set_policy(std::string_view type, const Policy& policy) = 0;
  /// Has `change` alter what is set for a type, and sets that; once more, from what is then set, if
  /// somebody else set it meanwhile. A policy that cannot be read counts as empty. Returns what is
  /// set now. Throws as set_policy(), what `change` throws, and Error{conflict} DMM-0306 if others
  /// never cease.
  virtual Policy change_policy(std::string_view type,
                               const std::function<void(Policy&)>& change) = 0;

  virtual std::vector<Pause> pauses() = 0;
  /// Replaces a pause of the same scope. by   who does it, for people.
  virtual void pause(const PauseScope& scope, std::string_view reason, std::string_view by) = 0;
  /// False if exactly this scope was not paused.
  virtual bool resume(const PauseScope& scope) = 0;
};

}  // namespace dmm
