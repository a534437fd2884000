#pragma once

// A FakeServer speaks as much of the NATS protocol as a client needs, and answers what the test
// says: also what no sound server would. It listens on a free port of 127.0.0.1.
//
// Threads: the script and the clock are called on one thread of the server; send() and deliver()
// only from there.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace dmm::testing {

class FakeServer final {
 public:
  /// What a client published.
  struct Published {
    std::string subject;
    std::string reply;
    std::string headers;  ///< as on the wire
    std::string payload;
  };
  using Script = std::function<void(FakeServer&, const Published&)>;
  using Clock = std::function<void(FakeServer&)>;

  /// script   called for each message that a client publishes.
  /// clock    called about ten times a second.
  explicit FakeServer(Script script, Clock clock = {});
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::string url() const;

  /// Passes a message to who subscribed to its subject.
  /// headers   a block as on the wire, "NATS/1.0...\r\n\r\n"; empty: none.
  void send(std::string_view subject, std::string_view payload, std::string_view headers = {});
  /// As JetStream delivers: to who subscribed to `inbox`, under the subject of the message.
  /// reply   "$JS.ACK...."
  void deliver(std::string_view inbox, std::string_view subject, std::string_view reply,
               std::string_view payload);

 private:
  struct Client {
    int socket = -1;
    std::string received;
    std::map<std::string, std::string> subjects;  ///< by subscription
  };
  void run(const std::stop_token& stop);
  void accept_client();
  bool receive(Client& client);
  bool take_line(Client& client);
  void pass(std::string_view to, std::string_view subject, std::string_view reply,
            std::string_view headers, std::string_view payload);

  const Script script_;
  const Clock clock_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::vector<Client> clients_;
  std::jthread thread_;
};

}  // namespace dmm::testing
