#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace dmm::service {

/// Tells systemd how the service stands, over the datagram protocol of sd_notify(3). Without a
/// systemd that wants to know it does nothing.
class Systemd final {
 public:
  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment, so
  /// that what the program starts does not speak in its name.
  Systemd();

  bool there() const noexcept { return !socket_.empty(); }
  /// How often it wants to hear that the service lives; zero: it does not.
  std::chrono::milliseconds watchdog() const noexcept { return watchdog_; }

  void ready(std::string_view status) const noexcept;
  void status(std::string_view status) const noexcept;
  void reloading() const noexcept;
  void stopping(std::chrono::milliseconds grace) const noexcept;
  void alive() const noexcept;

 private:
  void tell(const std::string& text) const noexcept;

  std::string socket_;
  std::chrono::milliseconds watchdog_{0};
};

}  // namespace dmm::service
