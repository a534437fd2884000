#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/inspect.h"
#include "dmm/internal/streams.h"
#include "dmm/transport/stream.h"
#include "dmm/workers.h"

namespace dmm::internal {

/// The version of a server; compares as versions do. What follows the third number is left out.
struct ServerVersion {
  int major = 0;
  int minor = 0;
  int patch = 0;

  friend auto operator<=>(const ServerVersion&, const ServerVersion&) = default;
};

/// "2.9.10" or "v2.10.0-RC.1"; nothing if there are not three numbers.
std::optional<ServerVersion> parse_version(std::string_view text);

/// What was found out about one stream.
struct StreamSurvey {
  std::string name;
  std::optional<transport::StreamState> state;  ///< none: see `error`
  std::string error;
  std::string remedy;
  std::vector<transport::ConsumerState> readers_before;  ///< a moment earlier
  std::vector<transport::ConsumerState> readers;
  std::string readers_error;  ///< why they cannot be listed; empty: they can
};

/// All that a diagnosis is made from.
struct Survey {
  transport::ServerFacts facts;
  std::vector<StreamSurvey> streams;  ///< the first one is the work stream
  std::vector<LeaseInfo> leases;
  std::vector<HistoryLoss> losses;  ///< newest last
  bool asked_workers = false;
  std::vector<WorkerInfo> workers;
  std::string version;  ///< of this program
  std::vector<std::string> exposed;  ///< files with secrets that others can read
  /// How far the clock of the server is ahead of ours; nothing: it is not known.
  std::optional<std::chrono::milliseconds> server_ahead;
  std::chrono::system_clock::time_point now;
};

/// What is good and what is not, most general first. Every finding that is not good has a remedy.
/// Pure: asks nobody.
std::vector<Finding> diagnose(const Survey& survey);

/// make_inspector(), for a process that logged in with these files.
std::unique_ptr<Inspector> make_inspector(const Streams& streams, std::vector<std::string> exposed);

}  // namespace dmm::internal
