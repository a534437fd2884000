#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <shared_mutex>
#include <string>
#include <string_view>

namespace dmm::internal {

/// Counts by type. Thread-safe; a type that was counted before costs no exclusive lock.
class NotifyCounts final {
 public:
  void add(std::string_view type) {
    {
      const std::shared_lock lock(mutex_);
      const auto found = counts_.find(type);
      if (found != counts_.end()) {
        found->second.fetch_add(1, std::memory_order_relaxed);
        return;
      }
    }
    const std::unique_lock lock(mutex_);
    counts_[std::string(type)].fetch_add(1, std::memory_order_relaxed);
  }
  std::map<std::string, std::uint64_t> all() const {
    const std::shared_lock lock(mutex_);
    return {counts_.begin(), counts_.end()};
  }

 private:
  mutable std::shared_mutex mutex_;
  std::map<std::string, std::atomic<std::uint64_t>, std::less<>> counts_;
};

}  // namespace dmm::internal
