#pragma once

// All measurements of a run: which, in what order, and whether their results are right.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "tests/bench/engine/options.h"

namespace dmm::bench {

inline constexpr const char* kDbIvm = "db-ivm";

class Session final {
 public:
  /// Runs everything, with progress on standard error.
  /// throws   std::runtime_error that names a subject whose result differs from the others', or
  ///          that failed. A peer that is wrong is named in notes() and its figures are left out.
  explicit Session(const Options& options);

  /// The best of all rounds; nullptr if not measured.
  const Measurement* find(const std::string& subject, const std::string& workload,
                          std::uint32_t size) const;
  std::optional<double> instructions(const std::string& subject, const std::string& workload,
                                     std::uint32_t size) const;
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  using Place = std::tuple<std::string, std::string, std::uint32_t>;

  void run(const std::string& workload, std::uint32_t size);
  void run_peers(const std::string& workload, std::uint32_t size);
  void take(const Task& task, const Measurement& measurement);
  void check(const std::string& workload, std::uint32_t size);
  void check_peer(const Task& task, const Measurement& measurement);
  void count_instructions(const std::string& workload, std::uint32_t size);
  Task own_task(const std::string& subject, const std::string& workload, std::uint32_t size) const;
  Task peer_task(const std::string& subject, const std::string& workload, std::uint32_t size) const;
  bool db_ivm_takes(const std::string& workload, std::uint32_t size) const;

  const Options& options_;
  std::map<Place, Measurement> best_;
  std::map<Place, double> instructions_;
  std::map<Task, std::vector<Checksum>> expected_;  // what the ceiling got
  std::set<Place> wrong_;
  std::vector<std::string> notes_;
};

}  // namespace dmm::bench
