#pragma once

// Measurements as figures with names, beside their baselines and goals.

#include <string>
#include <vector>

#include "tests/bench/engine/session.h"
#include "tests/bench/support/report.h"

namespace dmm::bench {

/// A figure and all that it is compared with.
struct Compared {
  Figure figure;  ///< against the ceiling
  struct Baseline {
    std::string against;  ///< name, then after a comma details
    double value;
  };
  std::vector<Baseline> peers;   ///< measured in the same run
  std::vector<Baseline> quoted;  ///< not measured here; see quoted.h
  bool shown = true;             ///< in the table
};

std::vector<Compared> make_figures(const Options& options, const Session& session);

/// One line for each figure and baseline.
Report make_report(const std::vector<Compared>& figures);

/// A table of those that are shown, on standard output.
void print_table(const std::vector<Compared>& figures);

}  // namespace dmm::bench
