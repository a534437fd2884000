#pragma once

// A MemoryStream is a stream of a MemoryServer as one connection sees it, with what a test wants to
// know of it and do to it.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/testing/faults.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

class MemoryConnection;

class MemoryStream final : public transport::Stream {
 public:
  /// Of MemoryTransport::open().
  MemoryStream(std::shared_ptr<MemoryConnection> connection, transport::StreamConfig config,
               bool may_create);
  ~MemoryStream() override;

  const std::string& name() const noexcept { return config_.name; }
  Part part() const noexcept { return part_; }

  // For tests; no fault strikes it.

  /// As MemoryServer::put and look.
  Sequence put(std::string subject, std::string payload, transport::Headers headers = {},
               std::optional<std::chrono::system_clock::time_point> at = {});
  std::optional<transport::Message> look(const std::string& subject) const;
  /// As MemoryServer::recreate.
  /// created   of the new stream; empty: now.
  void lose_history(std::string created = {});
  /// As Faults::hold, let_go and held of this connection, for this stream.
  void hold(Call call);
  void let_go(Call call);
  std::size_t held(Call call) const;
  /// How many last() there were through this object, and how many readers were begun.
  int single_reads() const noexcept { return single_reads_; }
  int scans() const noexcept { return scans_; }
  /// Readers of the stream that are open, of all connections.
  std::size_t readers() const;

  // transport::Stream
  void publish(transport::Publication publication, std::chrono::milliseconds deadline,
               transport::Completion<Sequence> done) override;
  void last(std::string subject,
            transport::Completion<std::optional<transport::Message>> done) override;
  void erase(Sequence sequence, transport::Completion<bool> done) override;
  std::unique_ptr<transport::Reader> read(transport::ReadOptions options,
                                          transport::ReaderSink& sink) override;
  transport::StreamState state() override;
  std::vector<std::string> subjects(std::string_view filter) override;
  std::string created() const override;

 private:
  void see(std::string created);

  const std::shared_ptr<MemoryConnection> connection_;
  const transport::StreamConfig config_;
  const Part part_;
  const bool may_create_;
  std::atomic<int> single_reads_{0};
  std::atomic<int> scans_{0};
  mutable std::mutex mutex_;
  std::string created_;  ///< as last seen
};

}  // namespace dmm::testing
