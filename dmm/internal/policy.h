#pragma once

#include <string>
#include <string_view>

#include "dmm/control.h"
#include "dmm/work_stream.h"

namespace dmm::internal {

/// Throws Error{invalid} DMM-0404 that names the setting: an unknown one, a value out of its range.
void check(const Policy& policy);

/// Lays a policy over the options of a program. The first wait is cut to the longest one, because
/// the two may come from different hands. Throws as check() does for either.
WorkOptions lay_over(const Policy& policy, WorkOptions options);

/// What a worker goes by.
struct InForce {
  WorkOptions options;
  std::string unsound;  ///< not empty: the policy cannot be used, and why
};
/// text       of the policy as it lies in the bucket; empty: none.
/// declared   by the program.
/// last       what was in force before: it stays so under a policy that cannot be used.
InForce in_force(std::string_view text, const WorkOptions& declared, const WorkOptions& last);

/// All settings as the options have them.
Policy policy_of(const WorkOptions& options);

/// Throws Error{invalid} DMM-0404 for options that a program must not have.
void check(const WorkOptions& options);

}  // namespace dmm::internal
