#pragma once

// A RawClient speaks the NATS protocol over a socket of its own: a client that shares no code with
// dmm or with the library below it, to put messages where a test wants them. Used by one thread.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dmm::integration {

class RawClient final {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  /// Connects to 127.0.0.1:port, without credentials if `user` is empty. Throws std::runtime_error.
  explicit RawClient(std::uint16_t port, std::string_view user = {},
                     std::string_view password = {});
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient();

  /// Publishes a message and returns the sequence under which JetStream stored it.
  /// Throws std::runtime_error with the server's words if it did not.
  std::uint64_t store(std::string_view subject, std::string_view payload,
                      const Headers& headers = {});

  /// Sends a request and returns the payload of the answer. Throws after 5 s without one.
  std::string request(std::string_view subject, std::string_view payload,
                      const Headers& headers = {});

  /// What somebody published, as it went through the server: stored or not.
  struct Heard {
    std::string subject;
    std::string headers;  ///< as on the wire
    std::string payload;
  };
  /// From now on hear() returns what is published on these subjects. A client that listens makes
  /// no requests.
  void listen(std::string_view subjects);
  /// The next message, or nothing if none came within `patience`.
  std::optional<Heard> hear(std::chrono::milliseconds patience);

 private:
  std::optional<Heard> take_heard();
  void send(std::string_view bytes);
  std::string read_line();
  std::string read_bytes(std::size_t count);

  int socket_ = -1;
  std::string buffer_;
  std::string inbox_;
  std::uint64_t requests_ = 0;
};

}  // namespace dmm::integration
