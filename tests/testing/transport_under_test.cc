#include "tests/testing/transport_under_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "dmm/nats/nats_transport.h"
#include "dmm/testing/memory_transport.h"
#include "dmm/testing/nats_server.h"

namespace dmm::testing {

namespace {

class InMemory final : public TransportUnderTest {
 public:
  std::shared_ptr<transport::Transport> connect() override {
    return connections_.emplace_back(server_.connect(1));
  }
  void take_down() override {
    for (const auto& connection : connections_) connection->faults().partition();
  }
  void bring_back() override {
    for (const auto& connection : connections_) connection->faults().heal();
  }

 private:
  MemoryServer server_;
  std::vector<std::shared_ptr<MemoryTransport>> connections_;
};

class OnNats final : public TransportUnderTest {
 public:
  explicit OnNats(bool own) : own_(own ? std::make_unique<NatsServer>() : nullptr) {}
  std::shared_ptr<transport::Transport> connect() override {
    ConnectionOptions options;
    options.servers = {server().url()};
    return nats::connect(options, Logger());
  }
  void take_down() override { own_->stop(); }
  void bring_back() override { own_->start(); }

 private:
  NatsServer& server() {
    if (own_) return *own_;
    static NatsServer shared;
    return shared;
  }

  const std::unique_ptr<NatsServer> own_;
};

}  // namespace

transport::StreamConfig TransportUnderTest::config(bool key_value) {
  static std::atomic<int> number = 0;
  const int mine = ++number;
  const std::string name = fmt::format("{}s{}", key_value ? "KV_" : "", mine);
  return {.name = name,
          .subjects = {key_value ? fmt::format("$KV.s{}.>", mine) : fmt::format("s{}.>", mine)},
          .replicas = 1,
          .key_value = key_value,
          .description = "of a test"};
}

std::string TransportUnderTest::on(std::string_view rest) const {
  std::string subject = config_.subjects.at(0);
  subject.replace(subject.size() - 1, 1, rest);
  return subject;
}

std::unique_ptr<TransportUnderTest> in_memory() {
  return std::make_unique<InMemory>();
}

std::unique_ptr<TransportUnderTest> on_nats(bool own_server) {
  return std::make_unique<OnNats>(own_server);
}

void Told::on_message(transport::Message message) noexcept {
  const std::lock_guard lock(mutex_);
  words_.push_back(message.subject.substr(message.subject.find('.') + 1) + '=' + message.payload);
  messages_.push_back(std::move(message));
}

void Told::add(std::string word) {
  const std::lock_guard lock(mutex_);
  words_.push_back(std::move(word));
}

std::vector<std::string> Told::all() const {
  const std::lock_guard lock(mutex_);
  return words_;
}

std::vector<std::string> Told::most() const {
  std::vector<std::string> words = all();
  std::erase(words, "complete");
  return words;
}

std::vector<transport::Message> Told::messages() const {
  const std::lock_guard lock(mutex_);
  return messages_;
}

std::size_t Told::count(std::string_view word) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count(words_, word));
}

void Told::wait_for_words(std::string_view word, std::size_t wanted,
                          std::chrono::milliseconds deadline) const {
  wait_for(
      word, [&] { return count(word) >= wanted; }, deadline);
}

void Told::wait_for_messages(std::size_t wanted, std::chrono::milliseconds deadline) const {
  wait_for(
      "messages", [&] { return messages().size() >= wanted; }, deadline);
}

std::uint64_t put(transport::Stream& stream, std::string subject, std::string payload,
                  std::optional<std::uint64_t> expected, transport::Headers headers) {
  transport::Publication publication{
      .subject = std::move(subject), .headers = std::move(headers), .payload = std::move(payload)};
  if (expected) publication.expected_last = Sequence{*expected};
  return transport::publish(stream, std::move(publication), 5s).value;
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.code().id);
  }
  return "none";
}

}  // namespace dmm::testing
