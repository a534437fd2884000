#pragma once

#include "dmm/control.h"
#include "dmm/work_stream.h"

namespace dmm::internal {

/// Throws Error{invalid} DMM-0404 that names the setting: an unknown one, a value out of its range.
void check(const Policy& policy);

/// Lays a policy over the options of a program. Throws as check() does for either.
WorkOptions lay_over(const Policy& policy, WorkOptions options);

/// All settings as the options have them.
Policy policy_of(const WorkOptions& options);

/// Throws Error{invalid} DMM-0404 for options that a program must not have.
void check(const WorkOptions& options);

}  // namespace dmm::internal
