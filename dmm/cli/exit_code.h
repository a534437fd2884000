#pragma once

#include "dmm/error.h"

namespace dmm::cli {

/// What `dmm` returns to the shell; documented in docs/reference/cli.md, never renumbered.
namespace exit_code {
inline constexpr int ok = 0;
inline constexpr int failed = 1;
inline constexpr int usage = 2;        ///< unknown verb or option, a bad name, a value not allowed
inline constexpr int unreachable = 3;  ///< no server, no access, no JetStream
inline constexpr int not_found = 4;
inline constexpr int conflict = 5;   ///< someone else wrote first
inline constexpr int timed_out = 6;  ///< no answer in time; the write may have happened
inline constexpr int interrupted = 130;
}  // namespace exit_code

/// The exit code that tells a script what to do about `error`.
int exit_code_of(const Error& error) noexcept;

}  // namespace dmm::cli
