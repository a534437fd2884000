#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "dmm/testing/internal/memory_connection.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

/// Reads a stream as an ephemeral consumer without acknowledgements does: from a cursor of its own.
/// Everything but the constructor, the destructor and grant() is for its connection, under the
/// server's mutex.
class MemoryReader final : public transport::Reader {
 public:
  /// may_create   a stream that is found missing is created again.
  MemoryReader(std::shared_ptr<MemoryConnection> connection, transport::StreamConfig config,
               bool may_create, transport::ReadOptions options, transport::ReaderSink& sink);
  ~MemoryReader() override;
  void grant(std::size_t count) override;

  std::string_view stream() const noexcept { return config_.name; }
  std::string description() const { return config_.name + ' ' + options_.filter; }
  /// It has found its stream, and where to begin.
  bool has_begun() const noexcept { return !look_; }
  /// The stream, or the connection, may be another one: look before reading on.
  void look_again() noexcept { look_ = true; }
  /// The same, but now: what is stored from here on must not hide a loss.
  void look_now();
  /// There is something that it was not given.
  bool behind() const;
  /// The next call of the sink, to be made without the mutex; empty if there is none, and then
  /// `until` is moved to when there will be one, if that is known.
  Courier::Task next(Courier::Clock::time_point& until);

 private:
  void look(const MemoryLog* log);
  void lose_history(std::string reason);
  Courier::Task give(const transport::Message& message);

  const std::shared_ptr<MemoryConnection> connection_;
  const transport::StreamConfig config_;
  const Part part_;
  const bool may_create_;
  const transport::ReadOptions options_;
  transport::ReaderSink& sink_;

  std::size_t granted_ = 0;
  bool look_ = true;
  bool find_end_;          ///< begin behind the last message
  std::string created_;    ///< of the stream; empty until it was seen
  std::uint64_t given_;    ///< the last message given
  std::uint64_t passed_;   ///< up to here nothing is left for it
  std::uint64_t end_ = 0;  ///< of the stream when it was looked at
  bool caught_up_ = false;
  bool complete_ = false;
  std::optional<std::string> lost_;  ///< not told yet
  /// When the next message may be given, where readers lag.
  std::optional<Courier::Clock::time_point> due_;
  std::uint64_t number_ = 0;  ///< last: from here on it is called
};

}  // namespace dmm::testing
