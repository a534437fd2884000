#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "dmm/error.h"
#include "dmm/log.h"

namespace dmm::nats {

/// Makes a connection anew where libnats does not bring it back. libnats gives up at the second
/// refusal, and goes on for ever with the keys and certificates that it was given at first. A new
/// connection reads every file again, and says why it is refused.
///
/// Lifecycle: start() once the connection stands, stop() before it is closed.
class Renewal final {
 public:
  /// whole   whether the connection stands.
  /// renew   makes anew what does not. Throws Error. Both are called on a thread of its own.
  Renewal(std::function<bool()> whole, std::function<void()> renew, Logger log);
  ~Renewal();
  Renewal(const Renewal&) = delete;
  Renewal& operator=(const Renewal&) = delete;

  void start();
  /// Ends; waits for an attempt that is under way. Idempotent.
  void stop() noexcept;

  /// The connection is lost. Any thread.
  /// for_good   libnats does not try to bring it back.
  void look(bool for_good) noexcept;

  /// Why the connection cannot be made, with the code; empty if it was not tried or stands. Any
  /// thread.
  std::string trouble() const;

 private:
  using Clock = std::chrono::steady_clock;

  void run(const std::stop_token& stop);
  void attempt();
  void note(const Error& error);

  const std::function<bool()> whole_;
  const std::function<void()> renew_;
  const Logger log_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  bool lost_ = false;
  bool for_good_ = false;
  std::string trouble_;

  // Of the thread.
  std::chrono::milliseconds delay_{0};
  Clock::time_point renewed_at_{};
  Clock::time_point said_at_{};
  std::string said_;

  std::jthread thread_;
};

}  // namespace dmm::nats
