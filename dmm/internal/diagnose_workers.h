#pragma once

#include <vector>

#include "dmm/internal/diagnose.h"

namespace dmm::internal {

/// Parts of diagnose(): the clocks of this machine, the server and the workers; who works, of which
/// version, and whether it is ready; who reads the streams.
void look_at_clocks(const Survey& survey, std::vector<Finding>& out);
void look_at_workers(const Survey& survey, std::vector<Finding>& out);
void look_at_readers(const StreamSurvey& stream, std::vector<Finding>& out);

}  // namespace dmm::internal
