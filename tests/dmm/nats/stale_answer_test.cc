// Goal: a node of a cluster that was the leader until it stood still says for a moment that less is
// stored than was read. That is no loss of history; but if it stays so, or something else was
// stored there meanwhile, it is one. Method: a server that says so to a reader that has read
// message 3.

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

constexpr std::uint64_t kRead = 3;

/// Says of the stream what it is set to say. Its first consumer gives messages 1 to 3.
struct Node {
  std::atomic<int> replicas{3};
  std::atomic<std::uint64_t> last{kRead};
  std::atomic<bool> there{true};
  std::atomic<int> looks{0};  ///< that were answered as told by the above
  std::atomic<int> consumers{0};
  FakeServer server{[this](FakeServer& self, const auto& asked) { answer(self, asked); }};

 private:
  static constexpr std::string_view kMissing =
      R"({"error":{"code":404,"err_code":10059,"description":"stream not found"}})";
  /// Message 3, but stored at another time than the one that is given.
  static constexpr std::string_view kOther =
      R"({"message":{"subject":"s.3","seq":3,"data":"e30=","time":"2026-11-21T04:11:00Z"}})";

  void answer(FakeServer& self, const FakeServer::Published& asked) {
    const std::string_view subject = asked.subject;
    if (subject == "$JS.API.INFO") return self.send(asked.reply, fake::account_info());
    if (subject.starts_with("$JS.API.STREAM.INFO.S")) {
      self.send(asked.reply, there ? fake::stream_info(last, replicas) : std::string(kMissing));
      ++looks;
    } else if (subject.starts_with("$JS.API.CONSUMER.CREATE.S")) {
      self.send(asked.reply, fake::consumer_info("C", 0, 0));
      ++consumers;
    } else if (subject.starts_with("$JS.API.CONSUMER.MSG.NEXT.S.C") && consumers == 1) {
      while (given_ < kRead) {
        ++given_;
        self.deliver(asked.reply, fmt::format("s.{}", given_),
                     fake::ack_subject("C", given_, given_, kRead - given_), "{}");
      }
    } else if (subject.starts_with("$JS.API.STREAM.MSG.GET.S")) {
      self.send(asked.reply, kOther);
    }
  }

  std::uint64_t given_ = 0;
};

class Sink final : public transport::ReaderSink {
 public:
  void on_message(transport::Message message) noexcept override { last = message.sequence.value; }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override { ++lost; }
  std::atomic<std::uint64_t> last{0};
  std::atomic<int> lost{0};
};

/// A stream of a node, and what a reader of it is to be given.
struct Scene {
  Node node;
  std::shared_ptr<transport::Transport> transport;
  std::shared_ptr<transport::Stream> stream;
  Sink sink;
  std::unique_ptr<transport::Reader> reader;

  explicit Scene(int replicas) {
    node.replicas = replicas;
    ConnectionOptions options;
    options.servers = {node.server.url()};
    transport = nats::connect(options, Logger());
    stream = transport->open(fake::config(), false);
  }
  ~Scene() {
    reader.reset();
    transport->close();
  }
  /// Reads behind message 3, or all.
  void read(bool behind = true) {
    node.looks = 0;
    transport::ReadOptions options;
    options.filter = "s.>";
    if (behind) {
      options.after = Sequence{kRead};
      options.created = fake::kCreated;
    }
    reader = stream->read(options, sink);
    reader->grant(100);
  }
};

}  // namespace

TEST_CASE("reader: a replicated stream that ends too early for a moment lost nothing",
          "[nats][fault]") {
  Scene scene(3);
  scene.node.last = kRead - 1;
  scene.read();
  testing::wait_for("a look", [&] { return scene.node.looks > 0; });
  scene.node.last = kRead;
  testing::wait_for("a consumer", [&] { return scene.node.consumers > 0; });
  CHECK(scene.node.looks > 1);
  CHECK(scene.sink.lost == 0);
}

TEST_CASE("reader: a replicated stream that ends too early and then goes on otherwise lost history",
          "[nats][fault]") {
  Scene scene(3);
  scene.read(false);
  testing::wait_for("the messages", [&] { return scene.sink.last == kRead; });
  scene.node.last = kRead - 1;
  const int looks = scene.node.looks;
  testing::wait_for(
      "a look", [&] { return scene.node.looks > looks; }, 20s);
  scene.node.last = kRead + 1;
  testing::wait_for("a consumer", [&] { return scene.node.consumers > 1; });
  CHECK(scene.sink.lost == 1);
}

TEST_CASE("reader: a replicated stream that ends too early again and again lost its history",
          "[nats][fault]") {
  Scene scene(3);
  scene.node.last = kRead - 1;
  scene.read();
  testing::wait_for(
      "the loss", [&] { return scene.sink.lost > 0; }, 20s);
  CHECK(scene.node.looks > 1);
  testing::wait_for("a consumer", [&] { return scene.node.consumers > 0; });
  CHECK(scene.sink.lost == 1);
}

TEST_CASE("reader: a replicated stream that is not found for a moment lost nothing",
          "[nats][fault]") {
  Scene scene(3);
  scene.node.there = false;
  scene.read();
  testing::wait_for("a look", [&] { return scene.node.looks > 0; });
  scene.node.there = true;
  testing::wait_for("a consumer", [&] { return scene.node.consumers > 0; });
  CHECK(scene.node.looks > 1);
  CHECK(scene.sink.lost == 0);
}

TEST_CASE("reader: a stream of one node that ends too early lost its history at once",
          "[nats][fault]") {
  Scene scene(1);
  scene.node.last = kRead - 1;
  scene.read();
  testing::wait_for("a consumer", [&] { return scene.node.consumers > 0; });
  CHECK(scene.sink.lost == 1);
  CHECK(scene.node.looks == 1);
}
