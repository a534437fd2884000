#include "tests/dmm/nats/fake_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace dmm::testing {

namespace {

constexpr int kTickMs = 100;

void write_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written <= 0) return;  // the client is gone; its end is seen when it is read
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

bool matches(std::string_view pattern, std::string_view subject) {
  if (pattern.ends_with(".>")) return subject.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == subject;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(std::move(word));
  return words;
}

}  // namespace

FakeServer::FakeServer(Script script, Clock clock)
    : script_(std::move(script)), clock_(std::move(clock)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_, 8) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the fake server cannot listen");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

FakeServer::~FakeServer() {
  thread_.request_stop();
  thread_.join();
  for (const Client& client : clients_) ::close(client.socket);
  ::close(listener_);
}

std::string FakeServer::url() const {
  return fmt::format("nats://127.0.0.1:{}", port_);
}

void FakeServer::send(std::string_view subject, std::string_view payload,
                      std::string_view headers) {
  pass(subject, subject, {}, headers, payload);
}

void FakeServer::deliver(std::string_view inbox, std::string_view subject, std::string_view reply,
                         std::string_view payload) {
  pass(inbox, subject, reply, {}, payload);
}

void FakeServer::pass(std::string_view to, std::string_view subject, std::string_view reply,
                      std::string_view headers, std::string_view payload) {
  for (const Client& client : clients_) {
    for (const auto& [subscription, pattern] : client.subjects) {
      if (!matches(pattern, to)) continue;
      std::string line =
          fmt::format("{} {} {}", headers.empty() ? "MSG" : "HMSG", subject, subscription);
      if (!reply.empty()) line += fmt::format(" {}", reply);
      if (!headers.empty()) line += fmt::format(" {}", headers.size());
      line += fmt::format(" {}\r\n", headers.size() + payload.size());
      write_all(client.socket, line.append(headers).append(payload).append("\r\n"));
    }
  }
}

void FakeServer::run(const std::stop_token& stop) {
  auto ticked = std::chrono::steady_clock::now();
  while (!stop.stop_requested()) {
    std::vector<pollfd> sockets{{listener_, POLLIN, 0}};
    for (const Client& client : clients_) sockets.push_back({client.socket, POLLIN, 0});
    ::poll(sockets.data(), sockets.size(), kTickMs);
    for (std::size_t i = clients_.size(); i-- > 0;) {
      if (sockets[i + 1].revents == 0 || receive(clients_[i])) continue;
      ::close(clients_[i].socket);
      clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (sockets[0].revents != 0) accept_client();
    const auto now = std::chrono::steady_clock::now();
    if (clock_ && now - ticked >= std::chrono::milliseconds(kTickMs)) {
      ticked = now;
      clock_(*this);
    }
  }
}

void FakeServer::accept_client() {
  const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0) return;
  write_all(socket,
            fmt::format(R"(INFO {{"server_id":"FAKE","server_name":"fake","version":"2.9.10",)"
                        R"("proto":1,"go":"","host":"127.0.0.1","port":{},"headers":true,)"
                        R"("max_payload":1048576,"jetstream":true}})"
                        "\r\n",
                        port_));
  clients_.push_back({socket, {}, {}});
}

bool FakeServer::receive(Client& client) {
  char buffer[65'536];
  const ssize_t size = ::recv(client.socket, buffer, sizeof buffer, 0);
  if (size <= 0) return false;
  client.received.append(buffer, static_cast<std::size_t>(size));
  while (take_line(client)) {
  }
  return true;
}

/// False if what was received ends within it.
bool FakeServer::take_line(Client& client) {
  const std::size_t end = client.received.find("\r\n");
  if (end == std::string::npos) return false;
  const std::vector<std::string> words = words_of(client.received.substr(0, end));
  const std::string verb = words.empty() ? "" : words[0];
  std::size_t taken = end + 2;
  Published published;
  if (verb == "PUB" || verb == "HPUB") {
    // PUB <subject> [reply] <size>; HPUB <subject> [reply] <size of headers> <size>
    const std::size_t numbers = verb == "PUB" ? 1 : 2;
    const std::size_t size = std::stoul(words.back());
    const std::size_t headers = numbers == 2 ? std::stoul(words[words.size() - 2]) : 0;
    if (client.received.size() < taken + size + 2) return false;
    published.subject = words.at(1);
    if (words.size() > 2 + numbers) published.reply = words[2];
    published.headers = client.received.substr(taken, headers);
    published.payload = client.received.substr(taken + headers, size - headers);
    taken += size + 2;
  }
  client.received.erase(0, taken);
  if (verb == "PING") write_all(client.socket, "PONG\r\n");
  if (verb == "SUB") client.subjects[words.back()] = words.at(1);
  if (verb == "UNSUB" && words.size() == 2) client.subjects.erase(words[1]);
  if (!published.subject.empty()) script_(*this, published);
  return true;
}

}  // namespace dmm::testing
