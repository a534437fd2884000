// Goal: a consumer that owes messages and gives none, but heartbeats, as was seen of a server under
// load, does not stop its reader. Method: a server that does so with the first consumer.

#include <catch2/catch.hpp>

#include <atomic>
#include <string>

#include "dmm/nats/nats_transport.h"
#include "dmm/testing/wait_for.h"
#include "tests/dmm/nats/fake_server.h"
#include "tests/dmm/nats/fake_stream.h"

using namespace dmm;
using namespace std::chrono_literals;
using testing::FakeServer;
namespace fake = dmm::testing::fake;

namespace {

constexpr std::uint64_t kMessages = 3;

/// One stream of three messages. Its first consumer gives the first of them, and then nothing.
class StallingServer {
 public:
  /// answers_infos   who asks for the state of a consumer.
  explicit StallingServer(bool answers_infos) : answers(answers_infos) {}

  const bool answers;  // before the server, whose thread reads it
  std::atomic<int> consumers{0};
  FakeServer server{[this](FakeServer& self, const auto& asked) { answer(self, asked); },
                    [this](FakeServer& self) { beat(self); }};

 private:
  void answer(FakeServer& self, const FakeServer::Published& asked) {
    const std::string_view subject = asked.subject;
    const auto is = [subject](std::string_view what) {
      return subject.starts_with("$JS.API." + std::string(what));
    };
    if (is("INFO")) return self.send(asked.reply, fake::account_info());
    if (is("STREAM.INFO.S")) return self.send(asked.reply, fake::stream_info(kMessages));
    if (is("CONSUMER.CREATE.S")) {
      delivered_ = 0;
      ++consumers;
      // The second one begins behind the message that the first one gave.
      pending_ = consumers == 1 ? kMessages : kMessages - 1;
      return self.send(asked.reply, fake::consumer_info(name(), pending_, 0));
    }
    if (is("CONSUMER.INFO.S")) {
      if (!answers) return;
      return self.send(asked.reply, fake::consumer_info(name(), pending_, delivered_));
    }
    if (is("CONSUMER.MSG.NEXT.S." + name())) {
      pull_ = asked.reply;
      const std::uint64_t owed = consumers == 1 ? 1 : pending_;
      while (delivered_ < owed && pending_ > 0) give(self);
    }
  }
  void give(FakeServer& self) {
    ++delivered_;
    --pending_;
    const std::uint64_t sequence = kMessages - pending_;
    self.deliver(pull_, fmt::format("s.{}", sequence),
                 fake::ack_subject(name(), sequence, delivered_, pending_), "{}");
  }
  void beat(FakeServer& self) {
    if (++ticks_ % 15 != 0 || pull_.empty()) return;
    self.send(
        pull_, "",
        fmt::format("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {}\r\n\r\n", delivered_));
  }
  std::string name() const { return fmt::format("C{}", consumers.load()); }

  std::uint64_t delivered_ = 0;
  std::uint64_t pending_ = 0;
  std::string pull_;
  int ticks_ = 0;
};

class Sink final : public transport::ReaderSink {
 public:
  void on_message(transport::Message message) noexcept override {
    in_order = in_order && message.sequence.value == ++last;
  }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override { ++lost; }
  std::atomic<std::uint64_t> last{0};
  std::atomic<bool> in_order{true};
  std::atomic<int> lost{0};
};

}  // namespace

TEST_CASE("reader: a consumer that owes messages and only beats is replaced within 30 s",
          "[nats][fault]") {
  StallingServer stalling(GENERATE(true, false));
  ConnectionOptions options;
  options.servers = {stalling.server.url()};
  const auto transport = nats::connect(options, Logger());
  const auto stream = transport->open(fake::config(), false);
  Sink sink;
  {
    transport::ReadOptions all;
    all.filter = "s.>";
    const auto reader = stream->read(all, sink);
    reader->grant(100);
    REQUIRE(testing::becomes_true([&] { return sink.last == 1; }, 10s));
    CHECK(testing::becomes_true([&] { return sink.last == kMessages; }, 30s));
    CHECK(stalling.consumers == 2);
    CHECK(sink.in_order);
    CHECK(sink.lost == 0);
  }
  transport->close();
}
