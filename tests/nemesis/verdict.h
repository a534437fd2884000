#pragma once

// The verdict: what was counted and measured, beside what is promised.

#include <optional>
#include <string>
#include <vector>

#include "tests/nemesis/check.h"
#include "tests/nemesis/nemesis.h"
#include "tests/nemesis/options.h"
#include "tests/nemesis/watcher.h"

namespace dmm::nemesis {

/// What is known when all processes have ended.
struct Outcome {
  History history;
  Deeds deeds;
  std::vector<std::string> surprises;  ///< processes that ended by themselves
  std::uint64_t world_refused = 0;
  std::uint64_t world_went_back = 0;
  std::uint64_t history_losses = 0;
  std::uint64_t strange_entries = 0;
  Watcher::Tokens tokens_left;  ///< at the end of work, or when it was given up to wait for it
  std::uint64_t readers = 0;    ///< on the work stream, while all workers live
  double settled_seconds = 0;   ///< from healing to the end of work
};

struct Figure {
  std::string name;
  double value = 0;
  std::string unit;
  std::optional<double> at_least = {};
  std::optional<double> at_most = {};

  bool kept() const { return (!at_least || value >= *at_least) && (!at_most || value <= *at_most); }
};

class Verdict final {
 public:
  Verdict(const Options& options, const Outcome& outcome);

  /// True if everything is as promised and enough was tried; with Bug, if what it leads to was
  /// found.
  bool good() const;

  /// The table, examples of violations, and the last line.
  std::string text() const;
  /// One JSON object a line. Throws std::runtime_error.
  void append_json(const std::string& path) const;

  const std::vector<Figure>& figures() const noexcept { return figures_; }

 private:
  void count(const Outcome& outcome);
  void check(const Outcome& outcome);
  void measure(const Outcome& outcome);

  const Options options_;
  std::vector<Figure> figures_;
  std::vector<std::string> examples_;
  std::string last_line_;
  std::size_t lost_ = 0;
  std::size_t overlaps_ = 0;
  std::size_t stale_ = 0;
  double back_to_work_ = 0;
};

}  // namespace dmm::nemesis
