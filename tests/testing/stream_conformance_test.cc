// Goal: a stream in memory does what dmm relies on of a stream of JetStream. Method: the same cases
// on both.

#include <future>
#include <thread>

#include "dmm/limits.h"
#include "dmm/wire.h"
#include "tests/testing/transport_under_test.h"

namespace dmm::testing {

TRANSPORT_CASE("stream: a message replaces the one on its subject and no other") {
  const auto stream = server.open();
  CHECK(put(*stream, server.on("a"), "1") == 1);
  CHECK(put(*stream, server.on("b"), "2") == 2);
  CHECK(put(*stream, server.on("a"), "3") == 3);
  const auto a = transport::last(*stream, server.on("a"));
  REQUIRE(a);
  CHECK(a->subject == server.on("a"));
  CHECK(a->payload == "3");
  CHECK(a->sequence == Sequence{3});
  CHECK(transport::last(*stream, server.on("b"))->payload == "2");
  CHECK_FALSE(transport::last(*stream, server.on("c")));
  const auto state = stream->state();
  CHECK(state.name == server.opened().name);
  CHECK(state.messages == 2);
  CHECK(state.first == Sequence{2});
  CHECK(state.last == Sequence{3});
  CHECK(state.bytes > 0);
  CHECK(state.replicas == 1);
}

TRANSPORT_CASE("stream: a message comes back as it was stored") {
  const auto stream = server.open();
  const std::string payload("\0\r\n\xff{}", 6);
  const auto before = std::chrono::system_clock::now();
  put(*stream, server.on("a"), payload, {}, {{"Dmm-One", "1"}, {"Dmm-Two", "two: 2"}});
  const auto message = transport::last(*stream, server.on("a"));
  REQUIRE(message);
  CHECK(message->payload == payload);
  CHECK(message->header("Dmm-One") == "1");
  CHECK(message->header("Dmm-Two") == "two: 2");
  CHECK_FALSE(message->header("dmm-one"));
  CHECK(message->header("Nats-Msg-Id"));
  CHECK(message->stored_at > before - 1s);
  CHECK(message->stored_at < std::chrono::system_clock::now() + 1s);
  put(*stream, server.on("empty"), "");
  CHECK(transport::last(*stream, server.on("empty"))->payload.empty());
}

TRANSPORT_CASE("stream: what a publish expects is the last message of its subject") {
  const auto stream = server.open();
  const auto refused = [&](const char* subject, std::uint64_t expected) {
    return code_of([&] { put(*stream, server.on(subject), "refused", expected); });
  };
  CHECK(refused("a", 1) == "DMM-0306");
  CHECK(put(*stream, server.on("a"), "1", 0) == 1);
  CHECK(refused("a", 0) == "DMM-0306");
  CHECK(put(*stream, server.on("b"), "2", 0) == 2);
  CHECK(refused("a", 2) == "DMM-0306");
  CHECK(put(*stream, server.on("a"), "3", 1) == 3);
  CHECK(refused("a", 1) == "DMM-0306");
  CHECK(transport::last(*stream, server.on("a"))->payload == "3");
  CHECK(stream->state().last == Sequence{3});  // what is refused takes no sequence
}

TRANSPORT_CASE("stream: behind a deletion a subject expects none and no sequence comes again") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "1");
  put(*stream, server.on("a"), "2");
  CHECK(transport::erase(*stream, Sequence{2}));
  CHECK_FALSE(transport::last(*stream, server.on("a")));
  CHECK(stream->state().messages == 0);
  CHECK(stream->state().last == Sequence{2});
  CHECK(code_of([&] { put(*stream, server.on("a"), "x", 2); }) == "DMM-0306");
  CHECK(put(*stream, server.on("a"), "3", 0) == 3);
}

TRANSPORT_CASE("stream: exactly the sequence that is named is deleted") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "1");
  put(*stream, server.on("a"), "2");
  put(*stream, server.on("b"), "3");
  CHECK_FALSE(transport::erase(*stream, Sequence{1}));  // replaced before
  CHECK_FALSE(transport::erase(*stream, Sequence{9}));  // not there yet
  CHECK(transport::erase(*stream, Sequence{3}));
  CHECK_FALSE(transport::erase(*stream, Sequence{3}));
  CHECK(transport::last(*stream, server.on("a"))->payload == "2");
}

TRANSPORT_CASE("stream: a message id that was seen is answered by what it stored") {
  const auto stream = server.open();
  const transport::Headers id{{"Nats-Msg-Id", "of " + server.opened().name}};
  CHECK(put(*stream, server.on("a"), "1", {}, id) == 1);
  CHECK(put(*stream, server.on("a"), "2") == 2);
  CHECK(put(*stream, server.on("a"), "1", {}, id) == 1);
  CHECK(put(*stream, server.on("b"), "1", {}, id) == 1);
  // Even if what it expects is no longer so: this is how a repeat finds that it was done.
  CHECK(put(*stream, server.on("a"), "1", 0, id) == 1);
  CHECK(transport::last(*stream, server.on("a"))->payload == "2");
  CHECK_FALSE(transport::last(*stream, server.on("b")));
  CHECK(transport::erase(*stream, Sequence{2}));
  CHECK(put(*stream, server.on("a"), "1", {}, id) == 1);
  CHECK(stream->state().messages == 0);
}

TRANSPORT_CASE("stream: of many who expect the same one wins") {
  const auto first = server.open();
  const auto other = server.connect();
  const auto second = other->open(server.opened(), false);
  for (int round = 0; round < 20; ++round) {
    const std::string subject = server.on("round." + std::to_string(round));
    std::atomic<int> stored = 0;
    std::atomic<int> refused = 0;
    {
      std::vector<std::jthread> all;
      for (int i = 0; i < 8; ++i) {
        transport::Stream& stream = i % 2 == 0 ? *first : *second;
        all.emplace_back([&] {
          const std::string code = code_of([&] { put(stream, subject, "mine", 0); });
          ++(code == "none" ? stored : refused);
        });
      }
    }
    CHECK(stored == 1);
    CHECK(refused == 7);
  }
}

TRANSPORT_CASE("stream: a payload may be as large as the limit and not larger") {
  const auto stream = server.open();
  put(*stream, server.on("a"), std::string(limits::payload_bytes_max, 'x'));
  CHECK(code_of([&] {
          put(*stream, server.on("a"), std::string(limits::payload_bytes_max + 1, 'x'));
        }) == "DMM-0202");
  CHECK(transport::last(*stream, server.on("a"))->payload.size() == limits::payload_bytes_max);
  CHECK(stream->state().last == Sequence{1});
}

TRANSPORT_CASE("stream: subjects are listed by filter") {
  const auto stream = server.open();
  for (const char* subject : {"a.1", "a.2", "b.1", "a.1.x"}) put(*stream, server.on(subject), "");
  const auto listed = [&](const char* filter) {
    std::vector<std::string> found = stream->subjects(server.on(filter));
    std::ranges::sort(found);
    return found;
  };
  CHECK(listed("a.*") == std::vector{server.on("a.1"), server.on("a.2")});
  CHECK(listed("a.>") == std::vector{server.on("a.1"), server.on("a.1.x"), server.on("a.2")});
  CHECK(listed("*.1") == std::vector{server.on("a.1"), server.on("b.1")});
  CHECK(listed("b.1") == std::vector{server.on("b.1")});
  CHECK(listed("c.>").empty());
}

TRANSPORT_CASE("stream: a removed key is a message that says so") {
  const auto config = server.config(true);
  const auto bucket = server.open(config);
  const std::string subject = "$" + config.name.substr(0, 2) + "." + config.name.substr(3) + ".key";
  put(*bucket, subject, "value", 0);
  CHECK(put(*bucket, subject, "", 1, {{"KV-Operation", "DEL"}}) == 2);
  const auto marker = transport::last(*bucket, subject);
  REQUIRE(marker);
  CHECK(wire::is_removed(*marker));
  CHECK(code_of([&] { put(*bucket, subject, "again", 0); }) == "DMM-0306");
  CHECK(put(*bucket, subject, "again", 2) == 3);
  CHECK(transport::erase(*bucket, Sequence{3}));
}

TRANSPORT_CASE("transport: a stream is created only if that is wanted") {
  const auto config = server.config();
  CHECK(code_of([&] { server.transport().open(config, false); }) == "DMM-0107");
  CHECK_FALSE(server.transport().remove(config.name));
  const auto stream = server.open(config);
  const std::string created = stream->created();
  CHECK_FALSE(created.empty());
  put(*stream, config.name + ".a", "kept");
  const auto other = server.connect();
  const auto same = other->open(config, true);
  CHECK(same->created() == created);
  CHECK(transport::last(*same, config.name + ".a")->payload == "kept");
  CHECK(server.transport().remove(config.name));
  CHECK_FALSE(server.transport().remove(config.name));
}

TRANSPORT_CASE("transport: a stream of the same name is another one") {
  const auto config = server.config();
  server.open(config);
  const auto watching = server.transport().open(config, false);  // does not bring it back
  const std::string before = watching->created();
  put(*watching, config.name + ".a", "1");
  server.transport().remove(config.name);
  CHECK(code_of([&] { watching->state(); }) == "DMM-0107");
  // A server that still deletes the files of the old one would break the new one.
  const auto until = std::chrono::steady_clock::now() + limits::recreate_delay;
  wait_for("the files to be gone", [&] { return std::chrono::steady_clock::now() > until; });
  server.open(config);
  CHECK(watching->created() == before);  // until somebody asks
  CHECK(watching->state().created != before);
  CHECK(watching->created() != before);
  CHECK(watching->state().messages == 0);
  CHECK(put(*watching, config.name + ".a", "2", 0) == 1);
}

TRANSPORT_CASE("transport: who may create a stream brings it back when it asks for it") {
  const auto config = server.config();
  const auto stream = server.open(config);
  server.transport().remove(config.name);
  CHECK(code_of([&] { stream->state(); }) == "DMM-0107");
  wait_for("the stream", [&] { return code_of([&] { stream->state(); }) == "none"; });
  CHECK(put(*stream, config.name + ".a", "1", 0) == 1);
}

TRANSPORT_CASE("stream: a publish waits for the stream that takes its subject") {
  const auto stream = server.open();
  const auto config = server.config();
  CHECK(code_of([&] { transport::publish(*stream, {.subject = config.name + ".a"}, 200ms); }) ==
        "DMM-0107");
  std::promise<Result<Sequence>> promise;
  stream->publish({.subject = config.name + ".a", .payload = "early"}, 10s,
                  [&](Result<Sequence> result) { promise.set_value(std::move(result)); });
  const auto late = server.open(config);
  CHECK(promise.get_future().get().value() == Sequence{1});
  CHECK(transport::last(*late, config.name + ".a")->payload == "early");
}

TRANSPORT_CASE("transport: what is closed answers DMM-0108") {
  const auto config = server.config();
  server.open(config);
  const auto other = server.connect();
  const auto stream = other->open(config, false);
  other->close();
  CHECK(code_of([&] { put(*stream, config.name + ".a", "1"); }) == "DMM-0108");
  CHECK(code_of([&] { transport::last(*stream, config.name + ".a"); }) == "DMM-0108");
  CHECK(code_of([&] { transport::erase(*stream, Sequence{1}); }) == "DMM-0108");
  CHECK(code_of([&] { stream->state(); }) == "DMM-0108");
  CHECK_FALSE(other->connected());
  CHECK_FALSE(transport::last(*server.transport().open(config, false), config.name + ".a"));
}

TRANSPORT_FAULT_CASE("transport: without a server a publish waits and everything else does not") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "1");
  CHECK(server.transport().connected());
  server.take_down();
  wait_for("the connection to be lost", [&] { return !server.transport().connected(); });
  CHECK(code_of([&] { transport::last(*stream, server.on("a")); }) == "DMM-0101");
  CHECK(code_of([&] { transport::erase(*stream, Sequence{1}); }) == "DMM-0101");
  CHECK(code_of([&] { stream->state(); }) == "DMM-0101");
  CHECK(code_of([&] { transport::publish(*stream, {.subject = server.on("b")}, 200ms); }) ==
        "DMM-0101");
  std::promise<Result<Sequence>> promise;
  stream->publish({.subject = server.on("a"), .payload = "2"}, 20s,
                  [&](Result<Sequence> result) { promise.set_value(std::move(result)); });
  server.bring_back();
  CHECK(promise.get_future().get().value() == Sequence{2});
  CHECK(transport::last(*stream, server.on("a"))->payload == "2");
  CHECK(server.transport().connected());
  CHECK(server.transport().reconnects() > 0);
}

}  // namespace dmm::testing
