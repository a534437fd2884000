#pragma once

// The way down: commands to devices, and the documents that are kept for them.
//
// A command is a message on the device's own subject; nothing of it is stored. Who listens there is
// online. A shadow is stored first, under the condition that nobody wrote meanwhile, and then told:
// a write that the server refuses is never heard by a device.

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/command.h"
#include "dmm/downlink/calls.h"
#include "dmm/internal/streams.h"

namespace dmm::downlink {

/// On whose behalf something goes down.
struct Sender {
  std::string from;  ///< "<type>.<id>" of a run; empty outside of runs
  Epoch epoch;       ///< of the run's lease
};

/// Thread-safe. Methods block.
class Downlink final {
 public:
  explicit Downlink(const internal::Streams& streams);

  /// See Context::command. `deadline` is the earlier of the caller's and the run's.
  CommandReply command(std::string_view kind, std::string_view device,
                       const nlohmann::json& payload, const Sender& sender,
                       std::chrono::steady_clock::time_point deadline, const std::stop_token& stop);

  std::optional<nlohmann::json> shadow(std::string_view kind, std::string_view device);
  bool set_shadow(std::string_view kind, std::string_view device, const nlohmann::json& document,
                  const Sender& sender);
  bool clear_shadow(std::string_view kind, std::string_view device, const Sender& sender);

  /// The last sequence of the reports: a report of a device that comes online now is above it.
  Sequence last_report() const;

 private:
  Calls& calls();
  std::optional<transport::Note> send(std::string_view kind, std::string_view device,
                                      const std::string& payload, const Sender& sender,
                                      std::chrono::steady_clock::time_point deadline,
                                      const std::stop_token& stop);
  std::optional<transport::Message> stored(std::string_view kind, std::string_view device) const;
  bool replace(std::string_view kind, std::string_view device, const std::string& text,
               const Sender& sender);
  void tell(std::string_view kind, std::string_view device, const std::string& text,
            Sequence revision);
  void tell_untold() noexcept;

  const wire::Names names_;
  const Logger log_;
  const std::shared_ptr<transport::Messenger> messenger_;
  const std::shared_ptr<transport::Stream> reports_;
  const std::shared_ptr<transport::Stream> shadows_;
  const std::string caller_;  ///< in the subjects of replies
  std::atomic<std::uint64_t> number_{0};
  std::mutex mutex_;              ///< guards calls_
  std::unique_ptr<Calls> calls_;  ///< made when it is first needed
  std::mutex untold_mutex_;
  std::map<std::string, transport::Note> untold_;  ///< by subject; guarded by untold_mutex_
  std::shared_ptr<void> reconnects_;               ///< last: no call comes after it
};

}  // namespace dmm::downlink
