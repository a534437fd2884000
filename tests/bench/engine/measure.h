#pragma once

// One measurement: a workload of one size on one subject, in a process of its own, so that memory
// and caches begin the same for all.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tests/bench/engine/subject.h"

namespace dmm::bench {

/// Rows in a step of the load.
inline constexpr std::size_t kLoadRows = 100'000;
/// Updates in a step of a batch; reports are larger.
inline constexpr std::size_t kBatchUpdates = 1'000;
inline constexpr std::size_t kBatchReports = 100;

struct Task {
  std::string subject;   ///< "dmm", "dmm-json", "ceiling", "ceiling-json", "sqlite"
  std::string workload;  ///< see workload.h
  std::uint32_t size = 1'000;
  std::size_t updates = 1'000;  ///< one by one
  std::size_t batches = 10;
  bool operator<(const Task& other) const;
};

struct Measurement {
  std::size_t rows = 0;     ///< loaded
  std::size_t updates = 0;  ///< single ones
  double load_s = 0;
  double load_cpu_s = 0;
  double p50_us = 0;  ///< of single updates
  double p99_us = 0;
  /// The longest, but no longer than the CPU time of the few around it: a step that waits for its
  /// turn on a busy machine is not a stall.
  double max_us = 0;
  double updates_cpu_s = 0;  ///< of all single updates, with making rows and reading results
  double report_cpu_s = 0;   ///< of the steps alone, where they are reports; others are too short
  double batch_s = 0;
  double batch_cpu_s = 0;
  std::size_t batch_updates = 0;
  double row_bytes = 0;  ///< what the process grew by in the load, for each row
  /// Of all changes up to the end of load, single updates and batches.
  std::vector<Checksum> sums;
  /// The same from scratch, by the subjects that can.
  std::vector<Checksum> recomputed;
};

/// Throws std::invalid_argument for a subject or workload that is not known, and what it throws.
std::unique_ptr<Subject> make_subject(const std::string& subject, const std::string& workload);

Measurement measure(const Task& task);

nlohmann::json to_json(const Measurement& measurement);
Measurement measurement_from_json(const nlohmann::json& json);

/// Compares subjects with each other and with a recomputation, row by row and not by checksums, at
/// each of a few points of a run. Throws std::runtime_error that names the first difference.
void verify(const std::string& workload, std::uint32_t size);

}  // namespace dmm::bench
