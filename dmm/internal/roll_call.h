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

#include "dmm/internal/log_level.h"
#include "dmm/internal/streams.h"
#include "dmm/observer.h"
#include "dmm/view.h"
#include "dmm/work_stream.h"
#include "dmm/workers.h"

namespace dmm::internal {

/// A type of which every slot is held by a run that does not end.
struct StuckType {
  std::string type;
  std::size_t slots = 0;
};

/// What a process does in a namespace.
struct Parts {
  std::vector<const WorkStream*> work_streams;
  std::vector<const Observer*> observers;
  std::vector<const ViewStream*> view_streams;
  std::vector<StuckType> stuck = {};
};

/// The part of an answer that does not change.
/// program   empty: as the file of the program is called.
nlohmann::json describe_process(const std::string& program);
/// What of it does not do its work yet, for people.
std::vector<std::string> not_ready(const Parts& parts);
/// The part of an answer that tells of it: "types", "views", "observers".
nlohmann::json describe(const Parts& parts);

/// Answers who asks who works in the namespace, and does what it is told to log, until `stop`.
/// Blocks, does not throw.
/// answer   what to say; called on a thread of the transport.
void answer_roll_call(const Streams& streams, const std::stop_token& stop, LogLevelKeeper& levels,
                      const std::function<nlohmann::json()>& answer);

/// Asks, and returns who answered within `timeout`, by name and id.
std::vector<WorkerInfo> call_roll(const Streams& streams, std::chrono::milliseconds timeout);
/// Tells workers how much to log, and returns who answered.
std::vector<WorkerInfo> order_log_level(const Streams& streams, const LogLevelOrder& order,
                                        std::chrono::milliseconds timeout);
/// Whether an order for `worker` is for the process that says `answer` of itself.
bool is_meant(std::string_view worker, const nlohmann::json& answer);

/// Reads an answer; nothing if it is none. Members that are missing or of another shape count as
/// not said.
std::optional<WorkerInfo> parse_worker(std::string_view text);

}  // namespace dmm::internal
