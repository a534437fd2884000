#include "raw_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace dmm::integration {

RawClient::RawClient(std::uint16_t port, std::string_view user, std::string_view password)
    : inbox_(fmt::format("_INBOX.{}", std::random_device{}())) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{5, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const std::string reason = std::strerror(errno);
    ::close(socket_);
    throw std::runtime_error(fmt::format("cannot connect to 127.0.0.1:{}: {}", port, reason));
  }
  read_line();  // INFO
  nlohmann::json hello{{"verbose", false}, {"pedantic", false},     {"headers", true},
                       {"lang", "raw"},    {"no_responders", true}, {"version", "1"}};
  if (!user.empty()) {
    hello["user"] = user;
    hello["pass"] = password;
  }
  send(fmt::format("CONNECT {}\r\nSUB {}.* 1\r\n", hello.dump(), inbox_));
}

RawClient::~RawClient() {
  ::close(socket_);
}

std::uint64_t RawClient::store(std::string_view subject, std::string_view payload,
                               const Headers& headers) {
  const std::string answer = request(subject, payload, headers);
  const nlohmann::json ack = nlohmann::json::parse(answer, nullptr, false);
  if (!ack.is_object() || !ack.contains("seq") || ack.contains("error")) {
    throw std::runtime_error(fmt::format("{} was not stored: {}", subject, answer));
  }
  return ack["seq"].get<std::uint64_t>();
}

std::string RawClient::request(std::string_view subject, std::string_view payload,
                               const Headers& headers) {
  const std::string reply = fmt::format("{}.{}", inbox_, ++requests_);
  if (headers.empty()) {
    send(fmt::format("PUB {} {} {}\r\n{}\r\n", subject, reply, payload.size(), payload));
  } else {
    std::string block = "NATS/1.0\r\n";
    for (const auto& [name, value] : headers) block += fmt::format("{}: {}\r\n", name, value);
    block += "\r\n";
    send(fmt::format("HPUB {} {} {} {}\r\n{}{}\r\n", subject, reply, block.size(),
                     block.size() + payload.size(), block, payload));
  }
  for (;;) {
    const std::string line = read_line();
    if (line == "PING") {
      send("PONG\r\n");
    } else if (line.starts_with("-ERR")) {
      throw std::runtime_error(fmt::format("{}: {}", subject, line));
    } else if (line.starts_with("MSG ") || line.starts_with("HMSG ")) {
      const std::size_t size = std::stoul(line.substr(line.rfind(' ') + 1));
      const std::string content = read_bytes(size + 2).substr(0, size);
      if (line.find(" " + reply + " ") == std::string::npos && !line.starts_with("MSG " + reply) &&
          !line.starts_with("HMSG " + reply)) {
        continue;  // a late answer to an earlier request
      }
      return content;
    }
  }
}

void RawClient::listen(std::string_view subjects) {
  send(fmt::format("SUB {} 2\r\nPING\r\n", subjects));
  while (read_line() != "PONG") {
  }
}

std::optional<RawClient::Heard> RawClient::hear(std::chrono::milliseconds patience) {
  for (;;) {
    if (std::optional<Heard> heard = take_heard()) return heard;
    pollfd waited{socket_, POLLIN, 0};
    if (::poll(&waited, 1, static_cast<int>(patience.count())) <= 0) return std::nullopt;
    char chunk[65'536];
    const ssize_t n = ::recv(socket_, chunk, sizeof chunk, 0);
    if (n <= 0) throw std::runtime_error("the server closed the connection");
    buffer_.append(chunk, static_cast<std::size_t>(n));
  }
}

/// A message that is whole in the buffer.
std::optional<RawClient::Heard> RawClient::take_heard() {
  for (;;) {
    const std::size_t end = buffer_.find("\r\n");
    if (end == std::string::npos) return std::nullopt;
    std::istringstream words(buffer_.substr(0, end));
    std::vector<std::string> line;
    for (std::string word; words >> word;) line.push_back(std::move(word));
    const bool with_headers = !line.empty() && line[0] == "HMSG";
    if (line.size() < 4 || (line[0] != "MSG" && !with_headers)) {
      if (line.size() == 1 && line[0] == "PING") send("PONG\r\n");
      buffer_.erase(0, end + 2);
      continue;
    }
    const std::size_t size = std::stoul(line.back());
    const std::size_t headers = with_headers ? std::stoul(line[line.size() - 2]) : 0;
    if (buffer_.size() < end + 2 + size + 2) return std::nullopt;
    const std::string content = buffer_.substr(end + 2, size);
    buffer_.erase(0, end + 2 + size + 2);
    return Heard{line[1], content.substr(0, headers), content.substr(headers)};
  }
}

void RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("the server closed the connection");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string RawClient::read_line() {
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    char chunk[4'096];
    const ssize_t n = ::recv(socket_, chunk, sizeof chunk, 0);
    if (n <= 0) throw std::runtime_error("the server did not answer within 5 s");
    buffer_.append(chunk, static_cast<std::size_t>(n));
  }
  const std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::string RawClient::read_bytes(std::size_t count) {
  while (buffer_.size() < count) {
    char chunk[65'536];
    const ssize_t n = ::recv(socket_, chunk, sizeof chunk, 0);
    if (n <= 0) throw std::runtime_error("the server did not answer within 5 s");
    buffer_.append(chunk, static_cast<std::size_t>(n));
  }
  const std::string bytes = buffer_.substr(0, count);
  buffer_.erase(0, count);
  return bytes;
}

}  // namespace dmm::integration
