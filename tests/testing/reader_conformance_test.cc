// Goal: a reader in memory gives what a reader of JetStream gives. Method: the same cases on both.

#include <atomic>
#include <thread>

#include "tests/testing/transport_under_test.h"

namespace dmm::testing {

using Words = std::vector<std::string>;

TRANSPORT_CASE("reader: what is there comes in order and then what is new") {
  const auto stream = server.open();
  for (const char* subject : {"a", "b", "c", "a"}) put(*stream, server.on(subject), subject);
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}}, told);
  reader->grant(100);
  told.wait_for_words("caught up", 1);
  told.wait_for_words("complete", 1);
  CHECK(told.all() == Words{"b=b", "c=c", "a=a", "caught up", "complete"});
  put(*stream, server.on("b"), "new");
  told.wait_for_messages(4);
  CHECK(told.all() == Words{"b=b", "c=c", "a=a", "caught up", "complete", "b=new"});
  const auto messages = told.messages();
  CHECK(messages.at(0).sequence == Sequence{2});
  CHECK(messages.at(3).sequence == Sequence{5});
  CHECK(messages.at(3).subject == server.on("b"));
  CHECK(messages.at(3).stored_at > std::chrono::system_clock::now() - 1min);
  CHECK(stream->state().consumers == 1);
}

TRANSPORT_CASE("reader: no more is given than was granted") {
  const auto stream = server.open();
  for (int i = 0; i < 5; ++i) put(*stream, server.on(std::to_string(i)), "");
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}}, told);
  Told other;  // begun later and granted all: when it has them the first one could, too
  const auto beside = stream->read({.filter = server.on(">"), .after = {}}, other);
  beside->grant(100);
  other.wait_for_messages(5);
  CHECK(told.all().empty());
  reader->grant(2);
  told.wait_for_messages(2);
  put(*stream, server.on("5"), "");
  other.wait_for_messages(6);
  CHECK(told.all() == Words{"0=", "1="});
  reader->grant(1);
  told.wait_for_messages(3);
  reader->grant(100);
  told.wait_for_messages(6);
  told.wait_for_words("caught up", 1);
}

TRANSPORT_CASE("reader: a filter chooses subjects") {
  const auto stream = server.open();
  for (const char* subject : {"a.1", "b.1", "a.2", "a.1.x"}) put(*stream, server.on(subject), "");
  const auto read = [&](const char* filter) {
    Words found;
    transport::scan(*stream, server.on(filter), [&](const transport::Message& message) {
      found.push_back(message.subject.substr(message.subject.find('.') + 1));
    });
    return found;
  };
  CHECK(read("a.*") == Words{"a.1", "a.2"});
  CHECK(read("a.>") == Words{"a.1", "a.2", "a.1.x"});
  CHECK(read("*.1") == Words{"a.1", "b.1"});
  CHECK(read("b.1") == Words{"b.1"});
  CHECK(read("c.>").empty());
}

TRANSPORT_CASE("reader: it begins behind the cursor that it is given") {
  const auto stream = server.open();
  for (const char* subject : {"a", "b", "c"}) put(*stream, server.on(subject), "");
  Told told;
  const auto reader = stream->read(
      {.filter = server.on(">"), .after = Sequence{2}, .created = stream->created()}, told);
  reader->grant(100);
  told.wait_for_words("caught up", 1);
  CHECK(told.most() == Words{"c=", "caught up"});
  Told end;
  const auto at_end = stream->read({.filter = server.on(">"), .after = Sequence{3}}, end);
  end.wait_for_words("complete", 1);
  CHECK(end.all() == Words{"caught up", "complete"});
}

TRANSPORT_CASE("reader: only what is new") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "old");
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}, .only_new = true}, told);
  reader->grant(100);
  told.wait_for_words("caught up", 1);
  put(*stream, server.on("a"), "new");
  told.wait_for_messages(1);
  CHECK(told.most() == Words{"caught up", "a=new"});
}

TRANSPORT_CASE("reader: headers without payloads") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "12345", {}, {{"Dmm-One", "1"}});
  Told told;
  const auto reader =
      stream->read({.filter = server.on(">"), .after = {}, .headers_only = true}, told);
  reader->grant(100);
  told.wait_for_messages(1);
  const transport::Message message = told.messages().at(0);
  CHECK(message.payload.empty());
  CHECK(message.header("Dmm-One") == "1");
  CHECK(message.header("Nats-Msg-Size") == "5");
}

TRANSPORT_CASE("reader: where there is nothing it is through without a grant") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "of another filter");
  Told told;
  const auto reader = stream->read({.filter = server.on("b.>"), .after = {}}, told);
  told.wait_for_words("complete", 1);
  CHECK(told.all() == Words{"caught up", "complete"});
}

TRANSPORT_CASE("reader: a cursor of another stream is a loss of history") {
  const auto stream = server.open();
  for (const char* subject : {"a", "b", "c"}) put(*stream, server.on(subject), "");
  Told other;
  const auto of_another = stream->read(
      {.filter = server.on(">"), .after = Sequence{2}, .created = "2001-01-01T00:00:00Z"}, other);
  of_another->grant(100);
  other.wait_for_words("caught up", 1);
  CHECK(other.most() == Words{"lost", "a=", "b=", "c=", "caught up"});
  Told behind;
  const auto too_far = stream->read({.filter = server.on(">"), .after = Sequence{4}}, behind);
  too_far->grant(100);
  behind.wait_for_words("caught up", 1);
  CHECK(behind.most() == Words{"lost", "a=", "b=", "c=", "caught up"});
}

TRANSPORT_CASE("reader: it follows its stream into a new one") {
  const auto stream = server.open();
  put(*stream, server.on("a"), "1");
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}}, told);
  reader->grant(100);
  told.wait_for_words("complete", 1);
  server.transport().remove(server.opened().name);
  told.wait_for_words("lost", 1);
  put(*stream, server.on("b"), "2");
  told.wait_for_messages(2);
  CHECK(told.count("lost") == 1);
  CHECK(told.messages().at(1).sequence == Sequence{1});
  told.wait_for_words("caught up", 2);
}

TRANSPORT_CASE("reader: what is deleted under it keeps it from nothing") {
  const auto stream = server.open();
  for (int round = 0; round < 10; ++round) {
    std::vector<std::uint64_t> there;
    for (int i = 0; i < 30; ++i) {
      there.push_back(put(*stream, server.on(std::to_string(i)), std::to_string(round)));
    }
    std::jthread eraser([&] {
      for (const std::uint64_t sequence : there) transport::erase(*stream, Sequence{sequence});
    });
    const std::size_t found =
        transport::scan(*stream, server.on(">"), [](const transport::Message&) {});
    CHECK(found <= 30);
  }
  CHECK(transport::scan(*stream, server.on(">"), [](const transport::Message&) {}) == 0);
}

TRANSPORT_CASE("reader: under a storm each subject's newest message comes and all in order") {
  const auto stream = server.open();
  constexpr int kLast = 300;
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}}, told);
  reader->grant(1'000'000);
  {
    std::vector<std::jthread> writers;
    for (int writer = 0; writer < 3; ++writer) {
      writers.emplace_back([&, writer] {
        for (int i = 0; i <= kLast; ++i) {
          put(*stream, server.on(std::to_string(writer)), std::to_string(i));
        }
      });
    }
  }
  for (int writer = 0; writer < 3; ++writer) {
    told.wait_for_words(std::to_string(writer) + '=' + std::to_string(kLast), 1);
  }
  Sequence before;
  for (const transport::Message& message : told.messages()) {
    REQUIRE(before < message.sequence);
    before = message.sequence;
  }
}

TRANSPORT_CASE("reader: once it is destroyed its sink hears nothing") {
  const auto stream = server.open();
  std::atomic<bool> stop = false;
  std::jthread writer([&] {
    while (!stop) put(*stream, server.on("a"), "");
  });
  for (int round = 0; round < 20; ++round) {
    auto told = std::make_unique<Told>();
    auto reader = stream->read({.filter = server.on(">"), .after = {}}, *told);
    reader->grant(1'000);
    told->wait_for_messages(1);
    reader.reset();
    told.reset();  // a call from now on would use freed memory
  }
  stop = true;
  writer.join();
  wait_for("the readers to go", [&] { return stream->state().consumers == 0; });
}

TRANSPORT_FAULT_CASE("reader: it goes on behind an outage and gives nothing twice") {
  const auto stream = server.open();
  for (const char* subject : {"a", "b"}) put(*stream, server.on(subject), "1");
  Told told;
  const auto reader = stream->read({.filter = server.on(">"), .after = {}}, told);
  reader->grant(100);
  told.wait_for_messages(2);
  server.take_down();
  wait_for("the connection to be lost", [&] { return !server.transport().connected(); });
  server.bring_back();
  wait_for("the connection", [&] { return server.transport().connected(); });
  put(*stream, server.on("a"), "2");
  told.wait_for_messages(3);
  CHECK(told.most() == Words{"a=1", "b=1", "caught up", "a=2"});
}

TRANSPORT_FAULT_CASE("reader: one that knows more than the server says that history was lost") {
  // The server is the same and the stream another one of the same name, as after a lost disk.
  const auto stream = server.open();
  for (const char* subject : {"a", "b", "c"}) put(*stream, server.on(subject), "1");
  Told told;
  const auto reader = stream->read({.filter = server.on("c"), .after = {}}, told);
  reader->grant(100);
  told.wait_for_words("caught up", 1);
  server.take_down();
  server.bring_back();
  const auto other = server.connect();
  other->remove(server.opened().name);
  told.wait_for_words("lost", 1);
  put(*stream, server.on("c"), "2");
  told.wait_for_messages(2);
  CHECK(told.messages().at(1).payload == "2");
}

}  // namespace dmm::testing
