#pragma once

// Marks of engines that are not part of the run: quoted, measured on another day, on a machine of
// the same kind (2 cores of an AMD EPYC, 24 GiB, Debian 12), best of three runs, with the same
// generators and checksums. To be read as an order of magnitude beside what is measured here.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace dmm::bench {

inline constexpr const char* kQuotedNote = "quoted: measured on another day";

/// A mark for a figure: "one-row p50", "batch", "load", "bytes-per-row", "one-row instructions".
struct Quoted {
  std::string engine;  ///< "dbsp" (Feldera, crate of January 2024), "differential-dataflow"
  double value;
};

/// Marks for a figure of rows as input; none where none was taken.
std::vector<Quoted> quoted_marks(const std::string& workload, const std::string& figure,
                                 std::uint32_t size);

}  // namespace dmm::bench
