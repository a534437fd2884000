#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/internal/streams.h"
#include "dmm/worker/crash_toll.h"
#include "dmm/worker/mailbox.h"
#include "dmm/worker/status_reading.h"

namespace dmm::worker {

/// The statuses of one type, in memory and in the status bucket: only identities that are failing,
/// parked or waiting for a device have one. Writes are sent in order, one at a time for each key,
/// and not waited for: a status is a report to people and to the next owner, nothing is decided by
/// its arrival. Owner thread only; answers come through the mailbox.
class StatusStore {
 public:
  using Clock = internal::SteadyClock;

  /// mine   whether this worker owns the lane of a key, and may count on it.
  StatusStore(const internal::Streams& streams, Mailbox& mailbox,
              std::function<bool(const std::string& key)> mine);

  /// Reads what is stored for a type, as far as `wanted(key)`. Returns what all statuses of the
  /// type say of workers that ended. Blocks. Throws Error{retry}.
  CrashToll load(std::string_view type, const std::function<bool(const std::string& key)>& wanted);
  /// A server that was away may have come back without the newest: what is known here is written
  /// again where it differs from what is stored, what is not known here is removed.
  /// read   whether `stored` tells of a key; of those, own ones are compared.
  void compare(const StatusReading::Messages& stored,
               const std::function<bool(const std::string& key)>& read);
  /// Forgets keys without touching what is stored: they are another worker's now.
  void forget(const std::function<bool(const std::string& key)>& gone);
  /// True if a write of such a key was not answered yet.
  bool writes(const std::function<bool(const std::string& key)>& which) const;

  /// The status of a key, or nullptr.
  const internal::Status* find(const std::string& key) const;
  /// The message of a key's status in the bucket, as far as is known; 0: none.
  Sequence stored(const std::string& key) const;
  /// stored   called on the owner thread when this status, or a later one of the key, is stored or
  ///          could not be.
  void put(const std::string& key, internal::Status status, std::function<void()> stored = {});
  void clear(const std::string& key);

  /// Removes statuses for which `keep(key)` is false: their tokens are gone.
  template <class Keep>
  void clear_unless(Keep keep) {
    std::vector<std::string> stale;
    for (const auto& [key, slot] : slots_) {
      if (slot->wanted && !keep(key)) stale.push_back(key);
    }
    for (const std::string& key : stale) clear(key);
  }

  /// Repeats writes of own keys that were not answered. Returns when there is more to repeat.
  Clock::time_point turn(Clock::time_point now);

  /// Stores that a token could not be read.
  void refuse(const std::string& subject, Sequence sequence, const Error& error);

  std::size_t size() const noexcept { return slots_.size(); }
  /// Writes that were not answered yet.
  std::size_t in_flight() const noexcept { return in_flight_; }

 private:
  struct Slot {
    std::shared_ptr<internal::Status> wanted;  ///< null: to be removed
    Sequence stored;                           ///< of the message in the bucket, 0 if none
    bool writing = false;
    bool dirty = false;
    bool doubt = false;  ///< a write was not answered: what lies there is not known
    bool told = false;   ///< that it is parked
    std::vector<std::function<void()>> waiting;
  };
  bool is_current(const std::string& key, const std::shared_ptr<Slot>& slot) const;
  void take_in(const std::string& key, internal::Status status, Sequence stored);
  void write(const std::string& key, const std::shared_ptr<Slot>& slot);
  void replace(const std::string& key, const std::shared_ptr<Slot>& slot, Sequence present);
  /// result   the message that lies there now; 0: none.
  void written(const std::string& key, const std::shared_ptr<Slot>& slot,
               const Result<Sequence>& result);

  const internal::Streams& streams_;
  Mailbox& mailbox_;
  const std::function<bool(const std::string& key)> mine_;
  std::unordered_map<std::string, std::shared_ptr<Slot>> slots_;
  std::size_t in_flight_ = 0;
  std::set<std::string> unanswered_;  ///< keys to be written again
  Clock::time_point again_at_;
};

}  // namespace dmm::worker
