#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/internal/streams.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

/// A stream in memory that keeps one message per subject, for tests of what reads streams. Answers
/// at once, on the thread that asks. Thread-safe; a sink must not call back into the stream.
class MemoryStream final : public transport::Stream {
 public:
  MemoryStream(std::string name, std::string created);

  /// Stores a message without ado and returns its sequence.
  Sequence put(std::string subject, std::string payload, transport::Headers headers = {},
               std::chrono::system_clock::time_point at = std::chrono::system_clock::now());

  /// How many calls were answered with one message, and how many readers were begun.
  int single_reads() const;
  int scans() const;
  /// Readers that are open.
  std::size_t readers() const;
  /// state() throws DMM-0107 from now on.
  void go_missing();

  void publish(transport::Publication publication, std::chrono::milliseconds deadline,
               transport::Completion<Sequence> done) override;
  void last(std::string subject,
            transport::Completion<std::optional<transport::Message>> done) override;
  void erase(Sequence sequence, transport::Completion<bool> done) override;
  std::unique_ptr<transport::Reader> read(transport::ReadOptions options,
                                          transport::ReaderSink& sink) override;
  transport::StreamState state() override;
  std::vector<std::string> subjects(std::string_view filter) override;
  std::string created() const override { return created_; }

 private:
  class MemoryReader;

  const std::string name_;
  const std::string created_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, transport::Message> messages_;  // by sequence
  std::vector<MemoryReader*> readers_;
  std::uint64_t last_ = 0;
  int single_reads_ = 0;
  int scans_ = 0;
  bool missing_ = false;
};

/// A transport that knows only what it is told of its server.
class MemoryTransport final : public transport::Transport {
 public:
  transport::ServerFacts told;

  std::shared_ptr<transport::Stream> open(const transport::StreamConfig& config, bool) override {
    return std::make_shared<MemoryStream>(config.name, "2024-01-01T00:00:00Z");
  }
  bool remove(std::string_view) override { return false; }
  transport::ServerFacts facts() override { return told; }
  bool connected() const override { return true; }
  std::uint64_t reconnects() const override { return 0; }
  void close() override {}
};

/// The streams of a namespace in memory.
struct MemoryNamespace {
  explicit MemoryNamespace(const std::string& ns = "music");

  std::shared_ptr<MemoryTransport> transport;
  std::shared_ptr<MemoryStream> work, cache, reports, status, leases;
  internal::Streams streams;
};

}  // namespace dmm::testing
