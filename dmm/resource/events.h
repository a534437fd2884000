#pragma once

// What happened to resources, as a durable stream that any process can follow from where it left
// off: DMM_<ns>_RESOURCE_EVENTS, kept for a week, at most a million. Each event of the database is
// in it once; the events of one resource are in order.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/bucket.h"
#include "dmm/resource/resource.h"
#include "dmm/types.h"

namespace dmm::resource {

struct Event {
  /// synced, failing, degraded, recovered (synced behind a failure), deleted, expired, skipped (an
  /// object was brought and not worked).
  std::string name;
  Key key;
  std::int64_t id = 0;          ///< in the database; grows
  std::int64_t generation = 0;  ///< of the resource
  std::int64_t attempt = 0;     ///< 1 and synced: the first sync of its life
  std::string state;
  std::string reason;  ///< the error, why it was deleted, or why it was skipped
  Time at;
  Sequence position;  ///< in the stream: begin behind it the next time
};

/// Which events; all that is set must hold.
struct EventFilter {
  std::optional<std::string> kind = {};
  std::optional<std::string> name = {};
  std::optional<std::string> ns = {};
};

/// Thread-safe. The bucket outlives it.
class Events final {
 public:
  /// Opens the stream, and makes it if it is missing. Throws as Bucket::open().
  explicit Events(Bucket& bucket);
  Events(Events&&) noexcept;
  Events& operator=(Events&&) noexcept;
  ~Events();

  /// Calls `visit` for each event behind `after`, those that are there and those to come, until
  /// `stop`; on the calling thread. Where events behind `after` are gone already, it begins with
  /// the oldest. What `visit` throws ends it and is passed on.
  void follow(const EventFilter& filter, Sequence after, std::stop_token stop,
              const std::function<void(const Event&)>& visit);
  /// The events that are there behind `after`, at most `limit`, oldest first.
  std::vector<Event> read(const EventFilter& filter = {}, Sequence after = {},
                          std::size_t limit = 1'000);
  /// The position of the newest event of all; zero: none.
  Sequence newest();

 private:
  struct State_;
  std::unique_ptr<State_> state_;
};

}  // namespace dmm::resource
