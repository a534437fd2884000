#include "dmm/nats/server_info.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

namespace dmm::nats {

namespace {

constexpr int kTimeoutMs = 1'000;
constexpr std::size_t kInfoBytesMax = 64 * 1024;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const noexcept { return fd_; }
  bool wait(short events) const {
    pollfd descriptor{fd_, events, 0};
    return ::poll(&descriptor, 1, kTimeoutMs) == 1;
  }

 private:
  int fd_;
};

/// "nats://user:password@host:port" -> host, port
std::pair<std::string, std::string> split_url(std::string url) {
  if (const auto scheme = url.find("://"); scheme != std::string::npos) url.erase(0, scheme + 3);
  if (const auto at = url.rfind('@'); at != std::string::npos) url.erase(0, at + 1);
  url = url.substr(0, url.find('/'));
  std::string port = "4222";
  if (const auto colon = url.rfind(':');
      colon != std::string::npos && url.find(']', colon) == std::string::npos) {
    port = url.substr(colon + 1);
    url.erase(colon);
  }
  if (url.size() > 2 && url.front() == '[') url = url.substr(1, url.size() - 2);
  return {url, port};
}

}  // namespace

nlohmann::json ask_server_info(const std::string& url) {
  const auto [host, port] = split_url(url);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &raw) != 0) return nullptr;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(raw, &::freeaddrinfo);
  for (const addrinfo* address = raw; address != nullptr; address = address->ai_next) {
    const Socket socket(
        ::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket.get() < 0) continue;
    ::connect(socket.get(), address->ai_addr, address->ai_addrlen);
    std::string text;
    while (text.find("\r\n") == std::string::npos && text.size() < kInfoBytesMax &&
           socket.wait(POLLIN)) {
      char buffer[4096];
      const ssize_t length = ::recv(socket.get(), buffer, sizeof buffer, 0);
      if (length <= 0) break;
      text.append(buffer, static_cast<std::size_t>(length));
    }
    if (!text.starts_with("INFO ")) continue;
    const auto info = nlohmann::json::parse(text.substr(5, text.find("\r\n") - 5), nullptr, false);
    if (info.is_object()) return info;
  }
  return nullptr;
}

}  // namespace dmm::nats
