#pragma once

// Measurements in processes of their own: of this program, of Node.js, under callgrind.

#include <cstdint>
#include <optional>
#include <string>

#include "tests/bench/engine/measure.h"

namespace dmm::bench {

/// Runs this program with "--child". Throws std::runtime_error with its words if it fails.
Measurement measure_in_child(const Task& task);

/// Runs peers/run.js, db-ivm, from a directory with its npm packages.
Measurement measure_db_ivm(const std::string& directory, const Task& task);

/// Instructions of one single update, without loading, making rows and reading results: a run with
/// 1 update and one with 1,001 under callgrind, their difference by 1,000.
std::uint64_t instructions(const Task& task);

/// Whether a program is in the PATH.
bool has_program(const std::string& name);

}  // namespace dmm::bench
