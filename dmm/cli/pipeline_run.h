#pragma once

// `dmm pipeline run`: a pipeline fed by hand.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dmm/cli/session.h"

namespace dmm::cli {

struct PipelineRunOptions {
  std::string file;
  std::vector<std::string> changes;  ///< files of lines; none or "-": standard input
  std::uint64_t batch = 1;           ///< rows of a step; 0: as the lines say
  bool snapshot = false;             ///< compare with the same program over whole collections
  std::string now;                   ///< empty: the time at which a step runs
  std::uint64_t seed = 0;
  std::string load_state;
  std::string save_state;
};

/// Reads changes, runs steps, writes the changes of the outputs as they come. Bad lines, documents
/// that cannot be evaluated and steps that fail are told and counted; everything else goes on.
///
/// returns  exit code: 0, 1 if something was told, 130 after an interrupt (the state is saved).
/// throws   UsageError; Error for files that cannot be read or written, a pipeline that cannot be
///          compiled, a state that does not fit.
int run_pipeline(Session& session, const PipelineRunOptions& options);

}  // namespace dmm::cli
