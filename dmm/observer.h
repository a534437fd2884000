#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include <nlohmann/json.hpp>

#include "dmm/context.h"
#include "dmm/durations.h"
#include "dmm/limits.h"

namespace dmm {

struct ObserveOptions {
  std::size_t concurrency = limits::observe_concurrency;  ///< devices handled at a time
};

struct ObserveStats {
  std::uint64_t reports = 0;   ///< read
  std::uint64_t handled = 0;   ///< the handler returned
  std::uint64_t failed = 0;    ///< calls of the handler that threw
  std::uint64_t repeated = 0;  ///< handler called again because the cache had changed meanwhile
  std::uint64_t stale = 0;     ///< ignored because their `seq` was not above the last one
  std::uint64_t refused = 0;   ///< put aside: they could not be read, or workers ended in them
  std::size_t waiting = 0;     ///< read, and neither handled nor refused yet
  bool holds_lease = false;    ///< it observes
  bool stands_by = false;      ///< another worker that lives does
  Durations lags;  ///< from the storage of a report, by the clock of the server, to its handling
};

/// Called for each report. `report` is the absolute observed state of the device.
using ReportHandler = std::function<void(ObserveContext& context, const nlohmann::json& report)>;

/// Reads the reports of one kind. Made by Bucket::observe, owned by the bucket. One observer of a
/// kind works at a time in the fleet, the others are warm standbys.
class Observer {
 public:
  virtual ~Observer() = default;

  virtual const std::string& kind() const noexcept = 0;

  /// Observes until `stop` is requested. The cursor is stored only behind reports whose handler,
  /// with all its notifies, returned; a handler that throws is called again with backoff, and holds
  /// back no other device. Called by one thread at a time; blocks.
  virtual void work(std::stop_token stop) = 0;

  /// Any thread.
  virtual ObserveStats stats() const = 0;
};

}  // namespace dmm
