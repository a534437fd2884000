// Answers that no sound server gives. Goal: whoever waits for an answer is told that it made no
// sense, or asks again; nobody waits for ever and no process ends. Method: a server that speaks the
// protocol and answers what the test says.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <atomic>
#include <future>
#include <mutex>

#include "dmm/nats/answer.h"
#include "dmm/nats/connection.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/testing/child_process.h"
#include "dmm/testing/wait_for.h"
#include "tests/dmm/nats/fake_server.h"
#include "tests/dmm/nats/fake_stream.h"

using namespace dmm;
using namespace dmm::nats;
using namespace std::chrono_literals;
using testing::FakeServer;
namespace fake = dmm::testing::fake;

namespace {

/// Answers by subject: the first prefix that fits. Others are answered as a sound server would.
class Answers {
 public:
  using Answer = std::function<std::string()>;
  void set(std::string prefix, Answer answer) {
    const std::lock_guard lock(mutex_);
    answers_.emplace_back(std::move(prefix), std::move(answer));
  }
  void operator()(FakeServer& server, const FakeServer::Published& asked) {
    if (asked.reply.empty()) return;
    const std::lock_guard lock(mutex_);
    for (const auto& [prefix, answer] : answers_) {
      if (asked.subject.starts_with(prefix)) return server.send(asked.reply, answer());
    }
    if (asked.subject == "$JS.API.INFO") return server.send(asked.reply, fake::account_info());
    if (asked.subject == "$JS.API.STREAM.INFO.S") server.send(asked.reply, fake::stream_info(1));
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::string, Answer>> answers_;
};

/// `bad` for the first `times`, then `good`.
Answers::Answer at_first(int times, std::string bad, std::string good) {
  return [left = std::make_shared<int>(times), bad = std::move(bad), good = std::move(good)] {
    return (*left)-- > 0 ? bad : good;
  };
}

struct Scene {
  Answers answers;
  FakeServer server{[this](FakeServer& self, const auto& asked) { answers(self, asked); }};
  std::shared_ptr<transport::Transport> transport;

  std::shared_ptr<transport::Stream> open() {
    ConnectionOptions options;
    options.servers = {server.url()};
    transport = connect(options, Logger());
    return transport->open(fake::config(), false);
  }
  ~Scene() {
    if (transport) transport->close();
  }
};

/// The result of a call that tells it later; DMM-0103 if it does not.
template <class T, class Call>
Result<T> wait_for_result(Call call) {
  const auto promise = std::make_shared<std::promise<Result<T>>>();
  call([promise](Result<T> result) { promise->set_value(std::move(result)); });
  auto future = promise->get_future();
  if (future.wait_for(10s) != std::future_status::ready) {
    return Error(code::timed_out, "never answered");
  }
  return future.get();
}

template <class T>
std::string_view code_of(const Result<T>& result) {
  return result.ok() ? "none" : result.error().code().id;
}

std::string bad_json() {
  return GENERATE(as<std::string>(), "", "+OK", "[]", "null", "5", "{", "{}", R"({"error":"none"})",
                  R"({"error":[]})", R"({"error":{}})", R"({"error":{"code":"400"}})",
                  R"({"error":{"code":400,"err_code":{},"description":7}})",
                  R"({"error":{"code":400,"err_code":1e300}})",
                  R"({"error":{"code":400,"err_code":-1}})",
                  R"({"error":{"code":400,"err_code":18446744073709551615}})", "\xFF\xFE{}",
                  R"({"seq":"5","success":"yes","name":5,"num_pending":"x","created":7,)"
                  R"("state":[],"delivered":{"consumer_seq":-1},"config":"S","message":{"seq":[]},)"
                  R"("limits":{"max_memory":"much"},"storage":-4})");
}

class Sink final : public transport::ReaderSink {
 public:
  void on_message(transport::Message) noexcept override { ++messages; }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override { ++lost; }
  std::atomic<int> messages{0};
  std::atomic<int> lost{0};
};

}  // namespace

TEST_CASE("publish: an answer without sense is no acknowledgement and no end", "[nats][fault]") {
  const std::string bad = bad_json();
  INFO(bad);
  Scene scene;
  SECTION("the next answer counts") {
    scene.answers.set("s.a", at_first(1, bad, fake::acknowledgement(7)));
    const auto stored = wait_for_result<Sequence>([&, stream = scene.open()](auto done) {
      stream->publish({.subject = "s.a"}, 5s, std::move(done));
    });
    CHECK(code_of(stored) == "none");
    if (stored.ok()) CHECK(stored.value() == Sequence{7});
  }
  SECTION("without one it is in doubt") {
    scene.answers.set("s.a", [&bad] { return bad; });
    const auto stored = wait_for_result<Sequence>([&, stream = scene.open()](auto done) {
      stream->publish({.subject = "s.a"}, 100ms, std::move(done));
    });
    CHECK(code_of(stored) == "DMM-0105");
  }
}

TEST_CASE("publish: a process that stood still sends nothing behind the deadline",
          "[nats][fault]") {
  std::atomic<int> asked{0};
  Scene scene;
  scene.answers.set("s.a", [&asked] {
    ++asked;
    return std::string(R"({"error":{"code":503,"description":"no leader"}})");
  });
  const auto stream = scene.open();
  testing::ChildOptions options;
  options.arguments = {"-c", fmt::format("while sleep 4; do kill -CONT {}; done", ::getpid())};
  testing::ChildProcess waker("sh", std::move(options));
  int before = 0;
  const auto stored = wait_for_result<Sequence>([&](auto done) {
    stream->publish({.subject = "s.a"}, 3s, std::move(done));
    testing::wait_for("some attempts", [&] { return asked >= 4; });
    before = asked;
    ::raise(SIGSTOP);
  });
  CHECK(code_of(stored) == "DMM-0106");
  CHECK(asked == before);
}

TEST_CASE("reads and deletions: an answer without sense is an error that says so",
          "[nats][fault]") {
  const std::string bad = bad_json();
  INFO(bad);
  Scene scene;
  for (const char* prefix : {"$JS.API.DIRECT.GET", "$JS.API.STREAM.MSG.DELETE"}) {
    scene.answers.set(prefix, [&bad] { return bad; });
  }
  const auto stream = scene.open();
  CHECK(code_of(wait_for_result<std::optional<transport::Message>>(
            [&](auto done) { stream->last("s.a", std::move(done)); })) == "DMM-0109");
  CHECK(code_of(wait_for_result<bool>(
            [&](auto done) { stream->erase(Sequence{1}, std::move(done)); })) == "DMM-0109");
}

TEST_CASE("reader: it begins though the server's first answers make no sense", "[nats][fault]") {
  const std::string bad = bad_json();
  const std::string about =
      GENERATE(as<std::string>(), "$JS.API.STREAM.INFO.S", "$JS.API.CONSUMER.CREATE.S");
  INFO(about << " is answered with " << bad);
  std::atomic<int> pulls{0};
  Scene scene;
  const auto stream = scene.open();
  if (about == "$JS.API.STREAM.INFO.S") {
    scene.answers.set(about, at_first(2, bad, fake::stream_info(1)));
    scene.answers.set("$JS.API.CONSUMER.CREATE.S", [] { return fake::consumer_info("C", 1, 0); });
  } else {
    scene.answers.set(about, at_first(2, bad, fake::consumer_info("C", 1, 0)));
  }
  scene.answers.set("$JS.API.CONSUMER.MSG.NEXT.S.C", [&pulls] {
    ++pulls;
    return std::string();
  });
  Sink sink;
  transport::ReadOptions all;
  all.filter = "s.>";
  const auto reader = stream->read(all, sink);
  reader->grant(10);
  CHECK(testing::becomes_true([&] { return pulls > 0; }, 10s));
  CHECK(sink.lost == 0);
}

TEST_CASE("facts: an answer without sense is an error that says so", "[nats][fault]") {
  Scene scene;
  const auto stream = scene.open();
  scene.answers.set("$JS.API.INFO", [] { return std::string(R"({"storage":"much"})"); });
  scene.answers.set("$JS.API.CONSUMER", [] { return std::string(R"({"consumers":[5]})"); });
  scene.answers.set("$JS.API.STREAM.INFO.S", [] { return std::string(R"({"created":{}})"); });
  const auto code = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return std::string(error.code().id);
    }
    return "none";
  };
  CHECK(code([&] { scene.transport->facts(); }) == "DMM-0109");
  CHECK(code([&] { scene.transport->consumers("S"); }) == "DMM-0109");
  CHECK(code([&] { scene.transport->clock_ahead("S"); }) == "DMM-0109");
  CHECK(code([&] { stream->state(); }) == "DMM-0109");
  CHECK(code([&] { stream->subjects("s.>"); }) == "DMM-0109");
}

TEST_CASE("connection: what a handler or a task throws is logged and ends there", "[nats][fault]") {
  std::atomic<int> errors{0};
  Answers answers;
  answers.set("ask", [] { return std::string("told"); });
  FakeServer server([&answers](FakeServer& self, const auto& asked) { answers(self, asked); });
  ConnectionOptions options;
  options.servers = {server.url()};
  Connection connection(
      options, Logger(Level::error,
                      [&errors](Level, std::string_view, const nlohmann::json&) { ++errors; }));
  connection.call_later(0ms, [] { throw std::runtime_error("a task"); });
  connection.request(Channel::bulk, "ask", {}, "", 2s,
                     [](const Result<Incoming>&) { throw std::runtime_error("a handler"); });
  connection.request(Channel::bulk, "silence", {}, "", 1ms,
                     [](const Result<Incoming>&) { throw std::runtime_error("a timeout"); });
  CHECK(testing::becomes_true([&] { return errors == 3; }, 10s));
  const auto told = connection.request("ask", "", 2s);
  REQUIRE(told.ok());
  CHECK(told.value().payload == "told");
}

TEST_CASE("answer: an error of the server keeps its number and its meaning", "[nats][unit]") {
  const auto error_of = [](int number) {
    Incoming answer;
    answer.payload = fmt::format(
        R"({{"error":{{"code":400,"err_code":{},"description":"words of the server"}}}})", number);
    const auto parsed = parse_answer(answer, "asking");
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().message() == fmt::format("asking: words of the server ({})", number));
    return parsed.error();
  };
  CHECK(error_of(js::kWrongLastSequence).kind() == Kind::conflict);
  CHECK(&error_of(js::kStreamNotFound).code() == &code::stream_missing);
  CHECK(&error_of(js::kNotEnabled).code() == &code::no_jetstream);
  CHECK(&error_of(10'999).code() == &code::server_refused);
}

TEST_CASE("acknowledgement: it is read in the form that servers give it and in others",
          "[nats][unit]") {
  const auto sequence_in = [](std::string text) {
    Incoming answer;
    answer.payload = std::move(text);
    return parse_acknowledgement(answer, "publishing");
  };
  CHECK(sequence_in(R"({"stream":"S","seq":5})").value() == Sequence{5});
  CHECK(sequence_in(R"({"stream":"S", "seq": 5,"duplicate": true})").value() == Sequence{5});
  CHECK(sequence_in(R"( {"seq" : 18446744073709551615})").value() == Sequence{~std::uint64_t{0}});
  CHECK(code_of(sequence_in(R"({"seq":0})")) == "DMM-0109");
  CHECK(code_of(sequence_in(R"({"seq":5.5})")) == "DMM-0109");
  CHECK(code_of(sequence_in(R"({"seq":18446744073709551616})")) == "DMM-0109");
  CHECK(code_of(sequence_in(R"(text "seq":5})")) == "DMM-0109");
}

TEST_CASE("direct answer: headers of the message itself do not pass for the server's",
          "[nats][unit]") {
  Incoming answer;
  answer.headers = {{"Nats-Sequence", "99"}, {"Nats-Sequence", "7"},
                    {"Status", "404"},       {"Nats-Subject", "s.other"},
                    {"Nats-Subject", "s.a"}, {"Nats-Time-Stamp", "2026-11-21T04:10:00Z"}};
  answer.status = 404;
  const auto found = parse_direct(answer, "s.a");
  REQUIRE(found.ok());
  REQUIRE(found.value());
  CHECK(found.value()->sequence == Sequence{7});
  CHECK(found.value()->subject == "s.a");
  answer.headers = {{"Status", "404"}};
  const auto none = parse_direct(answer, "s.a");
  REQUIRE(none.ok());
  CHECK_FALSE(none.value());
}
