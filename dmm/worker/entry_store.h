#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "dmm/transport/stream.h"
#include "dmm/types.h"
#include "dmm/wire.h"

namespace dmm::worker {

/// A cache entry as last read or written.
struct Entry {
  Sequence revision;                 ///< 0: no message on the key at all
  std::optional<std::string> value;  ///< none: missing or removed
  std::optional<wire::Done> done;
  std::string view = {};  ///< Dmm-View: whose row it holds; empty: of no view
  /// When it was stored or, where this worker did that, the token that it came from.
  std::chrono::system_clock::time_point stored_at = {};
  std::string newer = {};  ///< not empty: it is of a newer format, and this is the error

  static Entry from(std::optional<transport::Message> message);
};

/// The entries that the owner of a lane holds in memory: it is their only writer, so it need not
/// read them for every run. The least recently used go first when `bytes_max` is passed; a write
/// that is refused shows that someone else wrote, and the entry is dropped. One thread.
class EntryStore {
 public:
  explicit EntryStore(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// The entry, or nullptr if it is not known. Valid until the next call.
  const Entry* find(const std::string& key);
  void put(const std::string& key, Entry entry);
  /// Someone else wrote it, or a write went unanswered: it is no longer known.
  void drop(const std::string& key);
  void clear();

  /// All entries there are have been put: what is not found does not exist. Ends with the first
  /// entry that is dropped or makes way.
  void set_complete() noexcept { complete_ = true; }

 private:
  struct Slot {
    std::string key;
    Entry entry;
  };
  static std::size_t bytes_of(const Slot& slot);
  void take_out(std::list<Slot>::iterator slot);

  const std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  bool complete_ = false;
  const Entry missing_;
  std::list<Slot> slots_;  ///< most recently used first
  std::unordered_map<std::string_view, std::list<Slot>::iterator> by_key_;
};

}  // namespace dmm::worker
