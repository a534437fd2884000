#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace dmm {

/// What a materialize that did not throw says about its identity. A regular value.
class Outcome {
 public:
  enum class Action : std::uint8_t { done, requeue, park, forget, wait };

  /// The world is as declared. The cache is stored if it changed and the token is deleted.
  static Outcome done() { return Outcome(Action::done, {}, {}); }

  /// As done, and run again after `delay` even if nothing new happens. Not a failure: the attempts
  /// begin anew. News that arrive earlier run earlier.
  static Outcome requeue_after(std::chrono::milliseconds delay) {
    return Outcome(Action::requeue, delay, {});
  }

  /// Give up until someone brings news: what is wrong cannot be mended by trying again. The token
  /// stays, `dmm ls --parked` shows it with `reason`.
  static Outcome park(std::string reason) { return Outcome(Action::park, {}, std::move(reason)); }

  /// The cache entry is deleted together with the token: there is nothing left to look after.
  static Outcome forget() { return Outcome(Action::forget, {}, {}); }

  /// Not possible before the device is heard of again: the identity runs at the device's next
  /// report, at news, or after WorkOptions::offline_retry. Not a failure: attempts are neither
  /// counted nor begun anew. The token stays; what the run changed in the cache is not stored.
  static Outcome wait_for_report(std::string kind, std::string device) {
    Outcome outcome(Action::wait, {}, {});
    outcome.kind_ = std::move(kind);
    outcome.device_ = std::move(device);
    return outcome;
  }

  Action action() const noexcept { return action_; }
  /// Whose report is waited for; empty for other actions.
  const std::string& kind() const noexcept { return kind_; }
  const std::string& device() const noexcept { return device_; }
  std::chrono::milliseconds delay() const noexcept { return delay_; }
  const std::string& reason() const noexcept { return reason_; }

 private:
  Outcome(Action action, std::chrono::milliseconds delay, std::string reason)
      : action_(action), delay_(delay), reason_(std::move(reason)) {}

  Action action_;
  std::chrono::milliseconds delay_;
  std::string reason_;
  std::string kind_;
  std::string device_;
};

}  // namespace dmm
