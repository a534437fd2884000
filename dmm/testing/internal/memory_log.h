#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/result.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

/// What JetStream keeps of one stream: one message for each subject, by sequence. A sequence is
/// never used twice. Not thread-safe: its server guards it.
class MemoryLog final {
 public:
  MemoryLog(transport::StreamConfig config, std::string created)
      : config_(std::move(config)), created_(std::move(created)) {}

  const transport::StreamConfig& config() const noexcept { return config_; }
  const std::string& created() const noexcept { return created_; }
  std::uint64_t last() const noexcept { return last_; }
  bool takes(std::string_view subject) const noexcept;

  /// Stores a message. A message id (header Nats-Msg-Id) that was seen within the window of
  /// limits::dedupe_window stores nothing: the sequence of the first one is returned.
  /// returns   DMM-0306 if the last message of the subject is not `expected`.
  Result<Sequence> store(std::string subject, transport::Headers headers, std::string payload,
                         std::optional<Sequence> expected,
                         std::chrono::system_clock::time_point at);
  const transport::Message* last_of(const std::string& subject) const;
  const transport::Message* find(std::uint64_t sequence) const;
  bool erase(std::uint64_t sequence);
  /// The first message behind `after` that `filter` names.
  const transport::Message* next(std::uint64_t after, std::string_view filter) const;
  std::vector<std::string> subjects(std::string_view filter) const;
  transport::StreamState state() const;

  /// Goes back to what was there before the newest `count` sequences, as a server does that lost
  /// power before it wrote them: what they took the place of is there again, and so is what was
  /// erased since.
  void lose_last(std::uint64_t count);

 private:
  using Clock = internal::SteadyClock;
  struct Seen {
    std::string message_id;
    Clock::time_point at;
  };
  struct Gone {
    transport::Message message;
    std::uint64_t last;  ///< sequence at which it went
  };
  void forget_old_ids(Clock::time_point now);
  void put_in(transport::Message message);
  void take_out(std::map<std::uint64_t, transport::Message>::iterator found);

  const transport::StreamConfig config_;
  const std::string created_;
  std::map<std::uint64_t, transport::Message> messages_;
  std::unordered_map<std::string, std::uint64_t> newest_;  ///< by subject
  std::uint64_t last_ = 0;
  std::uint64_t bytes_ = 0;
  std::unordered_map<std::string, std::uint64_t> ids_;  ///< sequence by message id
  std::deque<Seen> seen_;                               ///< the oldest first
  std::deque<Gone> gone_;                               ///< the last ones, the oldest first
};

}  // namespace dmm::testing
