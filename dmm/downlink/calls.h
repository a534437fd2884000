#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <unordered_map>

#include "dmm/internal/runtime.h"
#include "dmm/transport/messenger.h"

namespace dmm::downlink {

/// Sends notes and waits for their answers, which come back under one filter. Thread-safe; as many
/// calls are under way as threads make them.
class Calls final {
 public:
  /// filter   what the reply subjects of all calls match. Throws what Messenger::subscribe throws.
  Calls(std::shared_ptr<transport::Messenger> messenger, const std::string& filter);
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  /// Sends `note`, whose reply subject no other call uses, and waits for the first note that comes
  /// back on it or below it.
  /// returns   nothing if none came until `deadline`.
  /// throws    Error{cancelled} DMM-0305 as soon as `stop` is requested; what Messenger::send
  /// throws.
  std::optional<transport::Note> call(const transport::Note& note,
                                      std::chrono::steady_clock::time_point deadline,
                                      const std::stop_token& stop);

 private:
  void take(transport::Note note);

  const std::shared_ptr<transport::Messenger> messenger_;
  std::mutex mutex_;
  internal::StopCondition changed_;
  std::unordered_map<std::string, std::optional<transport::Note>> waiting_;  ///< by reply subject
  std::unique_ptr<transport::Subscription> subscription_;  ///< last: it ends first
};

}  // namespace dmm::downlink
