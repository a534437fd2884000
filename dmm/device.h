#pragma once

// The other end of the way down, for devices and gateways that are written in C++. Others need no
// more than a NATS or MQTT client: docs/how-to/reach-a-device.md.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/connection_options.h"
#include "dmm/limits.h"
#include "dmm/log.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm {

/// What a handler of commands is given.
struct Command {
  std::string device;
  nlohmann::json payload;
  /// The identity whose run commands, "<type>.<id>"; empty: no run does.
  std::string from;
  /// Of the lane of that run. One that is lower than the highest seen of the same identity comes
  /// from a worker that was replaced meanwhile: refuse it.
  Epoch epoch;
  /// No answer is read later, by the clock of the caller; zero: not said.
  std::chrono::system_clock::time_point deadline;
  transport::Headers headers;  ///< all of them
};

/// Returns the answer. What it throws refuses the command, with its text as the reason.
using CommandHandler = std::function<nlohmann::json(const Command&)>;

/// Given the document that is desired now; nothing: none is.
using ShadowHandler = std::function<void(const std::optional<nlohmann::json>& document)>;

struct DeviceHostOptions {
  /// How to reach the servers; unset fields come from the environment and the configuration file.
  ConnectionOptions connection = {};
  int generation = 1;                                    ///< of the namespace's streams
  std::size_t concurrency = limits::device_concurrency;  ///< handlers at a time, 1 to 1,024
  Logger logger = Logger::standard(Level::warn);
  /// Another transport than NATS, for tests; the connection options are then not used.
  std::shared_ptr<transport::Transport> transport = {};
};

/// The program in which devices of one kind live: one, or a gateway's thousands. It needs no more
/// rights than its devices have: docs/how-to/reach-a-device.md lists them.
///
/// Handlers are called on threads of the host, one at a time for each device. All methods may be
/// called from any thread, but not from a handler of the same device what ends its serving.
class DeviceHost final {
 public:
  /// Connects. Throws Error{invalid} DMM-0201, 0403, 0404; {retry} DMM-0101; 0102.
  static DeviceHost connect(std::string_view ns, std::string_view kind,
                            DeviceHostOptions options = {});
  DeviceHost(DeviceHost&&) noexcept;
  DeviceHost& operator=(DeviceHost&&) noexcept;
  /// Ends all serving, waits for the handlers that run, disconnects.
  ~DeviceHost();

  /// From now on `device` is online and obeys commands. Report after this, not before: the report
  /// runs what waited for the device. A handler that was there before is replaced.
  /// Throws Error{invalid} DMM-0201; {retry} DMM-0101.
  void serve_commands(std::string_view device, CommandHandler handler);
  /// From now on `handler` is called with what is desired: with what is kept, and with each change.
  /// Throws as serve_commands, and {retry} DMM-0103 if nobody answers for what is kept; the changes
  /// are heard nevertheless.
  void follow_shadow(std::string_view device, ShadowHandler handler);
  /// The device is offline for commands, and its shadow is not followed. Waits for its handlers.
  void stop(std::string_view device);

  /// The document that is kept for the device; nothing if there is none.
  /// Throws Error{retry} DMM-0101, 0103; {not_found} DMM-0107.
  std::optional<nlohmann::json> shadow(std::string_view device);

  /// Publishes the absolute state of the device. Stored when it returns.
  /// Throws Error{invalid} DMM-0202, 0204; {retry} DMM-0101; {in_doubt} DMM-0105.
  void report(std::string_view device, const nlohmann::json& state);

 private:
  struct Impl;
  explicit DeviceHost(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm
