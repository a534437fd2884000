#pragma once

// What the conformance suite is run against: the transport in memory, and the one over NATS with a
// nats-server that the test started. Every case is a function of a TransportUnderTest, and becomes
// two tests.

#include <catch2/catch.hpp>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/error.h"
#include "dmm/testing/wait_for.h"
#include "dmm/transport/messenger.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

using namespace std::chrono_literals;

class TransportUnderTest {
 public:
  virtual ~TransportUnderTest() = default;

  /// The first connection.
  transport::Transport& transport() {
    if (!first_) first_ = connect();
    return *first_;
  }
  /// One more.
  virtual std::shared_ptr<transport::Transport> connect() = 0;

  /// The server goes away, and comes back with all it had.
  virtual void take_down() = 0;
  virtual void bring_back() = 0;

  /// A stream that nobody else has; its subjects begin with its prefix.
  transport::StreamConfig config(bool key_value = false);
  std::shared_ptr<transport::Stream> open(const transport::StreamConfig& config) {
    return transport().open(config, true);
  }
  /// As open(config()), with the subject prefix "<name>.".
  std::shared_ptr<transport::Stream> open() { return open(config_ = config()); }
  /// "<prefix>.<rest>" of the stream that open() opened last.
  std::string on(std::string_view rest) const;
  const transport::StreamConfig& opened() const noexcept { return config_; }

 private:
  std::shared_ptr<transport::Transport> first_;
  transport::StreamConfig config_;
};

std::unique_ptr<TransportUnderTest> in_memory();
/// own_server   for cases that take it down; the others share one.
std::unique_ptr<TransportUnderTest> on_nats(bool own_server);

/// What a reader told, in words: "a=1" for a message whose subject ends with ".a", "caught up",
/// "complete", "lost". Outlives the reader.
class Told final : public transport::ReaderSink {
 public:
  void on_message(transport::Message message) noexcept override;
  void on_caught_up() noexcept override { add("caught up"); }
  void on_complete() noexcept override { add("complete"); }
  void on_history_lost(std::string) noexcept override { add("lost"); }

  std::vector<std::string> all() const;
  /// Without "complete", which may come late.
  std::vector<std::string> most() const;
  std::vector<transport::Message> messages() const;
  std::size_t count(std::string_view word) const;
  void wait_for_words(std::string_view word, std::size_t count,
                      std::chrono::milliseconds deadline = 15s) const;
  void wait_for_messages(std::size_t count, std::chrono::milliseconds deadline = 15s) const;

 private:
  void add(std::string word);

  mutable std::mutex mutex_;
  std::vector<std::string> words_;
  std::vector<transport::Message> messages_;
};

/// Publishes and waits; returns the sequence.
std::uint64_t put(transport::Stream& stream, std::string subject, std::string payload,
                  std::optional<std::uint64_t> expected = {}, transport::Headers headers = {});
/// The code of the Error that a call throws, "none" if it does not throw.
std::string code_of(const std::function<void()>& call);

}  // namespace dmm::testing

// TRANSPORT_CASE("stream: it does something") { ... uses `server` ... }
#define TRANSPORT_CASE(name) DMM_TRANSPORT_CASE(name, false, DMM_UNIQUE(__COUNTER__))
// The same, for what takes the server down.
#define TRANSPORT_FAULT_CASE(name) DMM_TRANSPORT_CASE(name, true, DMM_UNIQUE(__COUNTER__))
#define DMM_UNIQUE(number) DMM_UNIQUE_2(number)
#define DMM_UNIQUE_2(number) transport_case_##number
#define DMM_TRANSPORT_CASE(name, own, function) DMM_TRANSPORT_CASE_2(name, own, function)
#define DMM_TRANSPORT_CASE_2(name, own, function)                       \
  static void function(TransportUnderTest& server);                     \
  TEST_CASE(name " in memory", "[transport][memory][unit]") {           \
    const auto server = in_memory();                                    \
    function(*server);                                                  \
  }                                                                     \
  TEST_CASE(name " on nats-server", "[transport][nats][integration]") { \
    const auto server = on_nats(own);                                   \
    function(*server);                                                  \
  }                                                                     \
  static void function([[maybe_unused]] TransportUnderTest& server)
