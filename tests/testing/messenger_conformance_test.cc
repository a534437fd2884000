// Goal: messages that are passed on in memory go where NATS passes them. Method: the same cases on
// both.

#include "tests/testing/transport_under_test.h"

namespace dmm::testing {

namespace {

using transport::Note;

// What was heard. Outlives the subscription.
class Heard {
 public:
  transport::NoteHandler handler() {
    return [this](Note note) {
      const std::lock_guard lock(mutex_);
      notes_.push_back(std::move(note));
    };
  }
  std::vector<Note> notes() const {
    const std::lock_guard lock(mutex_);
    return notes_;
  }
  std::size_t count() const { return notes().size(); }
  void wait(std::size_t wanted) const {
    wait_for("notes", [&] { return count() >= wanted; });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Note> notes_;
};

// A subject that nobody else has.
std::string subject_of(TransportUnderTest& server, const std::string& rest) {
  return "notes." + server.config().name + '.' + rest;
}

}  // namespace

TRANSPORT_CASE("messenger: all who listen hear and one of each group") {
  const auto here = server.transport().messenger();
  const auto other = server.connect();
  const auto there = other->messenger();
  const std::string subject = subject_of(server, "a");
  Heard first, second, group_a, group_b;
  const auto one = here->subscribe(subject, "", first.handler());
  const auto two = there->subscribe(subject, "", second.handler());
  const auto three = here->subscribe(subject, "group", group_a.handler());
  const auto four = there->subscribe(subject, "group", group_b.handler());
  for (int i = 0; i < 40; ++i) {
    here->send({.subject = subject, .headers = {{"Dmm-One", "1"}}, .payload = std::to_string(i)});
  }
  first.wait(40);
  second.wait(40);
  wait_for("the group", [&] { return group_a.count() + group_b.count() >= 40; });
  CHECK(first.count() == 40);
  CHECK(second.count() == 40);
  CHECK(group_a.count() + group_b.count() == 40);
  CHECK(group_a.count() > 0);
  CHECK(group_b.count() > 0);
  for (std::size_t i = 0; i < 40; ++i) CHECK(second.notes().at(i).payload == std::to_string(i));
  CHECK(second.notes().at(0).subject == subject);
  CHECK(second.notes().at(0).header("Dmm-One") == "1");
}

TRANSPORT_CASE("messenger: wildcards") {
  const auto messenger = server.transport().messenger();
  const std::string prefix = subject_of(server, "x");
  Heard star, rest;
  const auto one = messenger->subscribe(prefix + ".*.end", "", star.handler());
  const auto two = messenger->subscribe(prefix + ".>", "", rest.handler());
  for (const char* end : {".a.end", ".a.b.end", ".a", ".b.end"}) {
    messenger->send({.subject = prefix + end});
  }
  messenger->send({.subject = prefix});
  rest.wait(4);
  star.wait(2);
  CHECK(rest.count() == 4);
  CHECK(star.count() == 2);
}

TRANSPORT_CASE("messenger: a request is answered or comes back unheard") {
  const auto caller = server.transport().messenger();
  const auto other = server.connect();
  const auto device = other->messenger();
  const std::string subject = subject_of(server, "ask");
  const std::string inbox = subject_of(server, "inbox");
  Heard answers;
  const auto listening = caller->subscribe(inbox, "", answers.handler());
  {
    const auto serving = device->subscribe(subject, "", [&](const Note& note) {
      device->send({.subject = note.reply, .payload = note.payload + "!"});
    });
    caller->send({.subject = subject, .reply = inbox, .payload = "hello"});
    answers.wait(1);
    CHECK(answers.notes().at(0).payload == "hello!");
    CHECK_FALSE(answers.notes().at(0).unheard);
  }
  wait_for("the device to be gone", [&] {
    caller->send({.subject = subject, .reply = inbox, .payload = "hello"});
    return becomes_true([&] { return answers.notes().back().unheard; }, 100ms);
  });
  CHECK(answers.notes().back().payload.empty());
  caller->send({.subject = subject, .payload = "without a reply nobody is told"});
}

TRANSPORT_CASE("messenger: who ended hears nothing") {
  const auto messenger = server.transport().messenger();
  const std::string subject = subject_of(server, "a");
  Heard stays;
  const auto beside = messenger->subscribe(subject, "", stays.handler());
  {
    auto heard = std::make_unique<Heard>();
    auto subscription = messenger->subscribe(subject, "", heard->handler());
    for (int i = 0; i < 100; ++i) messenger->send({.subject = subject});
    heard->wait(1);
    subscription.reset();
    heard.reset();  // a call from now on would use freed memory
  }
  messenger->send({.subject = subject});
  stays.wait(101);
}

TRANSPORT_CASE("messenger: what is too large is refused") {
  const auto messenger = server.transport().messenger();
  CHECK(code_of([&] {
          messenger->send({.subject = "a", .payload = std::string((1 << 20) + 1, 'x')});
        }) == "DMM-0202");
}

TRANSPORT_CASE("messenger: what a stream takes is stored and acknowledged") {
  const auto stream = server.open();
  const auto messenger = server.transport().messenger();
  const std::string inbox = subject_of(server, "inbox");
  Heard answers, beside;
  const auto listening = messenger->subscribe(inbox, "", answers.handler());
  const auto listener = messenger->subscribe(server.on("*"), "", beside.handler());
  messenger->send({.subject = server.on("a"), .reply = inbox, .payload = "1"});
  answers.wait(1);
  CHECK_FALSE(answers.notes().at(0).unheard);
  CHECK(answers.notes().at(0).payload.find("\"seq\":1") != std::string::npos);
  CHECK(transport::last(*stream, server.on("a"))->payload == "1");
  put(*stream, server.on("b"), "2");  // the other way round: who listens hears what is published
  beside.wait(2);
  CHECK(beside.notes().at(0).payload == "1");
  CHECK(beside.notes().at(1).payload == "2");
}

TRANSPORT_CASE("messenger: the last message of a subject can be asked for by anyone") {
  const auto stream = server.open();
  const auto messenger = server.transport().messenger();
  put(*stream, server.on("a.b"), "1", {}, {{"Dmm-One", "1"}});
  const std::string inbox = subject_of(server, "inbox");
  const std::string ask = "$JS.API.DIRECT.GET." + server.opened().name + '.';
  Heard answers;
  const auto listening = messenger->subscribe(inbox, "", answers.handler());
  messenger->send({.subject = ask + server.on("a.b"), .reply = inbox});
  answers.wait(1);
  const Note found = answers.notes().at(0);
  CHECK(found.payload == "1");
  CHECK(found.header("Dmm-One") == "1");
  CHECK(found.header("Nats-Subject") == server.on("a.b"));
  CHECK(found.header("Nats-Sequence") == "1");
  CHECK_FALSE(found.header("Status"));
  messenger->send({.subject = ask + server.on("a.c"), .reply = inbox});
  answers.wait(2);
  CHECK(answers.notes().at(1).header("Status") == "404");
}

TRANSPORT_FAULT_CASE("messenger: subscriptions survive an outage and listeners are told") {
  const auto messenger = server.transport().messenger();
  const std::string subject = subject_of(server, "a");
  Heard heard;
  std::atomic<int> reconnects = 0;
  const auto subscription = messenger->subscribe(subject, "", heard.handler());
  auto token = messenger->on_reconnect([&] { ++reconnects; });
  server.take_down();
  wait_for("the link to go",
           [&] { return code_of([&] { messenger->send({.subject = subject}); }) == "DMM-0101"; });
  const std::size_t before = heard.count();
  server.bring_back();
  wait_for("the listener", [&] { return reconnects == 1; });
  messenger->send({.subject = subject, .payload = "again"});
  heard.wait(before + 1);
  CHECK(heard.notes().back().payload == "again");
  token.reset();
  server.take_down();
  wait_for("the link to go",
           [&] { return code_of([&] { messenger->send({.subject = subject}); }) == "DMM-0101"; });
  server.bring_back();
  wait_for("the link",
           [&] { return code_of([&] { messenger->send({.subject = subject}); }) == "none"; });
  CHECK(reconnects == 1);
}

TRANSPORT_CASE("messenger: once it is closed it sends nothing") {
  const auto other = server.connect();
  const auto messenger = other->messenger();
  const auto subscription = messenger->subscribe("a", "", [](const Note&) {});
  messenger->close();
  CHECK(code_of([&] { messenger->send({.subject = "a"}); }) == "DMM-0108");
  CHECK(code_of([&] { messenger->subscribe("a", "", [](const Note&) {}); }) == "DMM-0108");
}

}  // namespace dmm::testing
