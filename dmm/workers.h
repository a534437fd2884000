#pragma once

// Who works in a namespace. Every process in Bucket::work() answers when it is asked; nothing is
// stored. See docs/reference/wire-format.md, "Roll call".

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/limits.h"
#include "dmm/log.h"

namespace dmm {

/// The share of a worker in a type.
struct WorkerType {
  std::string type;
  std::vector<std::uint32_t> lanes;  ///< owned, in order
  std::size_t lanes_wanted = 0;      ///< how many are its by right; 0: it stands by
  std::size_t waiting = 0;           ///< identities with a token here that do not run
  std::size_t running = 0;
  std::size_t parked = 0;
  std::chrono::milliseconds oldest{0};  ///< age of the oldest token that is not parked
  std::uint64_t runs = 0;               ///< since it began
  std::uint64_t failed = 0;             ///< of them
  bool paused = false;
};

/// What a worker says of one of its views or observers.
struct WorkerPart {
  std::string name;
  bool active = false;  ///< false: another worker has it, this one stands by
};

/// A process that works in a namespace, as it says itself.
struct WorkerInfo {
  std::string id;    ///< of the process, new at each start
  std::string name;  ///< of the program
  std::string host;
  std::int64_t pid = 0;
  std::string version;  ///< of dmm
  std::chrono::system_clock::time_point started_at;
  std::vector<std::string> not_ready;  ///< what it waits for; empty: it is ready
  std::vector<WorkerType> types;
  std::vector<WorkerPart> views;
  std::vector<WorkerPart> observers;
  std::optional<Level> log_level;  ///< of what it logs; nothing: an older dmm, which does not say
  /// When it logs again as it was configured; nothing: it does.
  std::optional<std::chrono::system_clock::time_point> log_level_until;
  /// How far its clock is ahead of ours, give or take half of `answered_in`; nothing: it did not
  /// say.
  std::optional<std::chrono::milliseconds> clock_ahead;
  std::chrono::microseconds answered_in{0};
  nlohmann::json answer;  ///< all that it said
};

/// How much workers are to log for a while.
struct LogLevelOrder {
  Level level = Level::debug;
  /// After this they log as they were configured; 0: at once, and `level` is not looked at. At most
  /// limits::log_level_for_max.
  std::chrono::milliseconds duration = limits::log_level_for;
  /// Whom it is for: an id, a name, "host:pid"; empty: all.
  std::string worker = {};
};

}  // namespace dmm
