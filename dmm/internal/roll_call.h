#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/internal/streams.h"
#include "dmm/observer.h"
#include "dmm/view.h"
#include "dmm/work_stream.h"
#include "dmm/workers.h"

namespace dmm::internal {

/// What a process does in a namespace.
struct Parts {
  std::vector<const WorkStream*> work_streams;
  std::vector<const Observer*> observers;
  std::vector<const ViewStream*> view_streams;
};

/// The part of an answer that does not change.
/// program   empty: as the file of the program is called.
nlohmann::json describe_process(const std::string& program);
/// What of it does not do its work yet, for people.
std::vector<std::string> not_ready(const Parts& parts);
/// The part of an answer that tells of it: "types", "views", "observers".
nlohmann::json describe(const Parts& parts);

/// Answers who asks who works in the namespace, until `stop`. Blocks, does not throw.
/// answer   what to say; called on a thread of the transport.
void answer_roll_call(const Streams& streams, const std::stop_token& stop,
                      const std::function<nlohmann::json()>& answer);

/// Asks, and returns who answered within `timeout`, by name and id.
std::vector<WorkerInfo> call_roll(const Streams& streams, std::chrono::milliseconds timeout);

/// Reads an answer; nothing if it is none. Members that are missing or of another shape count as
/// not said.
std::optional<WorkerInfo> parse_worker(std::string_view text);

}  // namespace dmm::internal
