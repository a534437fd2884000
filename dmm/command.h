#pragma once

// What comes of a command to a device.

#include <cstdint>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "dmm/error.h"
#include "dmm/types.h"

namespace dmm {

/// The device is not connected. A materialize that lets it pass waits for the device's next report,
/// as if it had returned Outcome::wait_for_report; no attempt is counted.
class DeviceOffline final : public Error {
 public:
  DeviceOffline(std::string kind, std::string device);

  const std::string& kind_of_device() const noexcept { return kind_; }
  const std::string& device() const noexcept { return device_; }

 private:
  std::string kind_;
  std::string device_;
};

/// A regular value.
class CommandReply final {
 public:
  enum class Result : std::uint8_t {
    answered,    ///< answer() is what the device said
    refused,     ///< reason() is what the device said
    unreadable,  ///< it answered something that is no JSON, too large or too deep: reason()
    no_answer,   ///< it was connected, and did not answer in time: it may have obeyed
    offline      ///< it is not connected, and has not got the command
  };

  CommandReply(Result result, std::string kind, std::string device, nlohmann::json answer,
               std::string reason)
      : result_(result),
        kind_(std::move(kind)),
        device_(std::move(device)),
        answer_(std::move(answer)),
        reason_(std::move(reason)) {}

  Result result() const noexcept { return result_; }
  bool answered() const noexcept { return result_ == Result::answered; }
  bool refused() const noexcept { return result_ == Result::refused; }
  bool offline() const noexcept { return result_ == Result::offline; }

  /// The answer; throws DeviceOffline DMM-0701, Error{in_doubt} DMM-0702, {conflict} DMM-0703,
  /// {corrupt} DMM-0704 if there is none.
  nlohmann::json get() const;

  /// The answer; null if there is none, or if the device answered nothing.
  const nlohmann::json& answer() const noexcept { return answer_; }
  /// Why there is no answer; empty if there is one.
  const std::string& reason() const noexcept { return reason_; }
  const std::string& kind() const noexcept { return kind_; }
  const std::string& device() const noexcept { return device_; }

 private:
  Result result_;
  std::string kind_;
  std::string device_;
  nlohmann::json answer_;
  std::string reason_;
};

/// "answered", "refused", "unreadable", "no_answer", "offline".
std::string_view to_string(CommandReply::Result result) noexcept;

}  // namespace dmm
