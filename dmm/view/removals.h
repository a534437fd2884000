#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "dmm/internal/runtime.h"

namespace dmm::view {

/// Decides which rows that vanished are told as removed: absence is evidence only when it was said.
///
/// All removals of a step go or stay together. They stay, until a person approves, while an input
/// is in doubt, while others are held, and when more than max(100, 5 %) of the view's rows would go
/// within a minute; a minute, because otherwise it would depend on the batching. One thread.
class Removals {
 public:
  using Clock = internal::SteadyClock;

  /// free   removals that are never held for their number.
  explicit Removals(std::size_t free) : free_(free) {}

  /// Takes the ids whose rows vanished in a step. rows   that the view has after it.
  /// Returns those that may be told now; the others are held.
  std::vector<std::string> propose(std::vector<std::string> vanished, std::size_t rows,
                                   Clock::time_point now);
  /// The row of an id is there again.
  void withdraw(const std::string& id) { held_.erase(id); }
  /// From now on everything is held.
  void doubt(std::string reason);
  /// A person approved what is held: it is returned, and the doubt ends.
  std::vector<std::string> approve();

  bool holds(const std::string& id) const { return held_.contains(id); }
  const std::unordered_set<std::string>& held() const noexcept { return held_; }
  /// Why, in words; empty if nothing is held nor in doubt.
  std::string reason() const;
  bool in_doubt() const noexcept { return doubt_.has_value(); }

 private:
  void forget_old(Clock::time_point now);

  std::size_t free_;
  std::unordered_set<std::string> held_;
  std::optional<std::string> doubt_;
  std::string limit_;  ///< the sentence about the limit that was passed
  struct Gone {
    Clock::time_point at;
    std::size_t count;
  };
  std::deque<Gone> gone_;  ///< told within the last minute
  std::size_t recent_ = 0;
};

}  // namespace dmm::view
