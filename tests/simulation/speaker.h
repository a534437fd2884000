#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>

#include "dmm/bucket.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/memory_server.h"
#include "dmm/testing/memory_transport.h"
#include "tests/simulation/bugs.h"

namespace dmm::simulation {

/// Who says things to the server, one after the other, on a thread of its own and with faults of
/// its own.
class Speaker final {
 public:
  /// desired   the bucket of wishes.
  using Speech = std::function<void(Bucket& bucket, transport::Stream& desired)>;

  Speaker(const testing::MemoryServer& server, std::uint64_t seed, Bug bug);

  void say(Speech speech);
  bool silent() const;  ///< it has said all
  testing::Faults& faults() noexcept { return memory_->faults(); }

 private:
  void speak(const std::stop_token& stop);

  std::shared_ptr<testing::MemoryTransport> memory_;
  std::shared_ptr<transport::Transport> transport_;
  Bucket bucket_;
  std::shared_ptr<transport::Stream> desired_;
  mutable std::mutex mutex_;
  internal::StopCondition changed_;
  std::deque<Speech> speeches_;
  bool speaking_ = false;
  internal::Thread thread_;  ///< last: it ends first
};

}  // namespace dmm::simulation
