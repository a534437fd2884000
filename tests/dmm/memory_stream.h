#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dmm/internal/streams.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

/// A stream in memory that keeps one message per subject, for tests of what reads and writes
/// streams. Like a real one it answers and delivers on a thread of its own, in order; a test may
/// hold answers back, refuse or lose the history. Thread-safe.
class MemoryStream final : public transport::Stream {
 public:
  /// What a test can hold back: the answers to these calls wait until let_go().
  enum class Call : std::uint8_t { publish, last, erase };

  MemoryStream(std::string name, std::string created);
  ~MemoryStream() override;

  /// Stores a message without ado and returns its sequence.
  Sequence put(std::string subject, std::string payload, transport::Headers headers = {},
               std::chrono::system_clock::time_point at = std::chrono::system_clock::now());
  /// The last message of a subject without ado.
  std::optional<transport::Message> look(const std::string& subject) const;

  /// How many calls were answered with one message, and how many readers were begun.
  int single_reads() const;
  int scans() const;
  /// Readers that are open.
  std::size_t readers() const;

  /// state() throws DMM-0107 from now on.
  void go_missing();
  /// The calls are carried out, but their answers are held back.
  void hold(Call call);
  /// Answers what was held back, in order, and holds nothing any more.
  void let_go(Call call);
  /// Answers that are held back now.
  std::size_t held(Call call) const;
  /// Another stream takes the place of this one: empty, created at another time. Readers hear of
  /// it.
  void lose_history(std::string created);

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
  class MemoryReader;
  using Task = std::function<void()>;

  Sequence store(std::string subject, std::string payload, transport::Headers headers,
                 std::chrono::system_clock::time_point at);
  Sequence last_on(const std::string& subject) const;
  void answer(Call call, Task task);
  void notice();
  void serve(const std::stop_token& stop);

  const std::string name_;
  mutable std::mutex mutex_;
  std::string created_;
  std::map<std::uint64_t, transport::Message> messages_;  // by sequence
  std::vector<MemoryReader*> readers_;
  std::uint64_t last_ = 0;
  int single_reads_ = 0;
  int scans_ = 0;
  bool missing_ = false;
  std::map<Call, std::vector<Task>> held_;

  std::condition_variable_any changed_;
  std::deque<Task> tasks_;
  std::uint64_t events_ = 0;
  bool at_work_ = false;
  std::jthread thread_;  // last: it ends first
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
