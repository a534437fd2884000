#pragma once

// Whether an answer that tells of a loss of history is to be believed. Of a stream with replicas
// one alone is not: a node that was the leader until it stood still or was cut off knows less than
// was read, and so may a new leader for a while. That is over within seconds.

#include <chrono>

#include "dmm/limits.h"

namespace dmm::transport {

/// What is held against one stream. Not thread-safe.
class LossDoubt final {
 public:
  /// An answer told of a loss. Returns whether it is to be believed: if it may be stale, only once
  /// three answers in limits::stream_check_interval or more have told of one, and none in between
  /// of the contrary. Then it begins anew.
  bool believed(bool may_be_stale, std::chrono::steady_clock::time_point now) {
    if (answers_++ == 0) since_ = now;
    if (may_be_stale && (answers_ < kAnswers || now - since_ < limits::stream_check_interval)) {
      return false;
    }
    clear();
    return true;
  }
  /// An answer told that all is there.
  void clear() { answers_ = 0; }

 private:
  static constexpr int kAnswers = 3;
  int answers_ = 0;
  std::chrono::steady_clock::time_point since_;
};

}  // namespace dmm::transport
