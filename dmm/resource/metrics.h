#pragma once

// What a host counts, for its statistics and for whoever serves metrics (dmm/metrics.h).

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "dmm/metrics.h"
#include "dmm/resource/resource.h"

namespace pqxx {
class transaction_base;
}

namespace dmm::resource::internal {

/// Relaxed.
struct Counters {
  std::atomic<std::uint64_t> relayed{0};
  std::atomic<std::uint64_t> worked{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> superseded{0};
  std::atomic<std::uint64_t> informed{0};
  std::atomic<std::uint64_t> expired{0};
  std::atomic<std::uint64_t> cleaned{0};
  std::atomic<std::uint64_t> rescued{0};
};

/// What the database holds at a moment.
struct Inventory {
  struct Kind {
    std::map<std::string, std::int64_t> by_state;
    std::optional<Time>
        oldest;  ///< since when the longest of those that are not synced is as it is
  };
  std::map<std::string, Kind> kinds;
  std::int64_t outbox = 0;
};
Inventory take_inventory(pqxx::transaction_base& transaction);

/// Thread-safe.
class HostMetrics final : public MetricSource {
 public:
  explicit HostMetrics(std::shared_ptr<const Counters> counters);

  std::span<const Metric> families() const noexcept override;
  void collect(MetricSink& to) const override;

  /// Whether the inventory should be taken: somebody reads it, and that it costs is a hundredth of
  /// the time.
  bool wants_inventory() const;
  /// took   how long.
  void put(Inventory inventory, std::chrono::steady_clock::duration took);

 private:
  const std::shared_ptr<const Counters> counters_;
  mutable std::atomic<bool> read_{false};  ///< since the last inventory
  mutable std::mutex mutex_;
  std::optional<Inventory> inventory_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace dmm::resource::internal
