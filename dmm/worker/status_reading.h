#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "dmm/identity.h"
#include "dmm/internal/streams.h"
#include "dmm/limits.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// Reads the statuses of a type that are stored for some lanes, while work goes on. Made and
/// destroyed on the owner's own thread.
class StatusReading final : private transport::ReaderSink {
 public:
  using Messages = std::unordered_map<std::string, transport::Message>;  ///< by key

  /// lanes   those whose statuses are kept.
  StatusReading(const internal::Streams& streams, Mailbox& mailbox, std::string_view type,
                const std::array<bool, limits::lanes>& lanes)
      : names_(streams.names),
        mailbox_(mailbox),
        lanes_(lanes),
        reader_(streams.status->read({.filter = names_.status_filter(type), .after = {}}, *this)) {
    reader_->grant(std::size_t{1} << 40);
  }

  bool covers(std::uint32_t lane) const noexcept { return lanes_[lane]; }
  bool complete() const {
    const std::lock_guard lock(mutex_);
    return complete_;
  }
  /// What was read, once.
  Messages take() {
    const std::lock_guard lock(mutex_);
    return std::move(messages_);
  }

 private:
  void on_message(transport::Message message) noexcept override {
    std::string key(names_.status_key(message.subject));
    if (!lanes_[lane_of_key(key)]) return;
    const std::lock_guard lock(mutex_);
    messages_.insert_or_assign(std::move(key), std::move(message));
  }
  void on_caught_up() noexcept override {}
  void on_complete() noexcept override {
    {
      const std::lock_guard lock(mutex_);
      complete_ = true;
    }
    mailbox_.wake();
  }
  void on_history_lost(std::string) noexcept override {
    const std::lock_guard lock(mutex_);
    messages_.clear();
    complete_ = false;
  }

  const wire::Names& names_;
  Mailbox& mailbox_;
  const std::array<bool, limits::lanes> lanes_;
  mutable std::mutex mutex_;  ///< guards what follows
  Messages messages_;
  bool complete_ = false;
  std::unique_ptr<transport::Reader> reader_;  ///< last: it ends first
};

}  // namespace dmm::worker
