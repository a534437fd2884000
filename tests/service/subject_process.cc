#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string_view>

#include "dmm/testing/wait_for.h"
#include "tests/service/subject.h"

namespace dmm::service_test {

using namespace std::chrono_literals;

Reply http(const std::string& method, int port, const std::string& path, const std::string& body,
           const std::string& host) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request =
        method + " " + path +
        " HTTP/1.1\r\nHost: " + (host.empty() ? "127.0.0.1:" + std::to_string(port) : host) +
        "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\nConnection: close\r\n\r\n" + body;
    std::string_view rest = request;
    for (ssize_t n = 0; !rest.empty(); rest.remove_prefix(static_cast<std::size_t>(n))) {
      n = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n <= 0) break;  // it may have answered already
    }
    char bytes[4'096];
    for (ssize_t n = 0; (n = ::recv(fd, bytes, sizeof(bytes), 0)) > 0;) {
      answer.append(bytes, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  const std::size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos || !answer.starts_with("HTTP/1.1 ")) return {};
  return {std::atoi(answer.c_str() + 9), answer.substr(end + 4)};
}

Subject::Subject(const std::string& server, std::string ns, std::vector<std::string> flags,
                 std::map<std::string, std::string> environment) {
  testing::ChildOptions options;
  options.arguments = {"--namespace", std::move(ns)};
  options.arguments.insert(options.arguments.end(), flags.begin(), flags.end());
  options.environment = std::move(environment);
  options.environment.emplace("DMM_SERVER", server);
  options.environment.emplace("DMM_HTTP", "127.0.0.1:0");
  process_ = std::make_unique<testing::ChildProcess>(DMM_SUBJECT, std::move(options));
}

std::vector<json> Subject::lines(const std::string& message) const {
  std::vector<json> found;
  std::istringstream all(process_->error_output());
  for (std::string line; std::getline(all, line);) {
    const json parsed = json::parse(line, nullptr, false);
    if (parsed.is_object() && parsed.value("message", "") == message) found.push_back(parsed);
  }
  return found;
}

void Subject::wait_for_line(const std::string& message) const {
  testing::wait_for(
      "the line \"" + message + "\"", [&] { return !lines(message).empty(); }, 30s);
}

int Subject::port() {
  if (port_ != 0) return port_;
  wait_for_line("started");
  const std::string address = lines("started").at(0).at("http");
  port_ = std::stoi(address.substr(address.rfind(':') + 1));
  return port_;
}

void Subject::wait_until_ready() {
  testing::wait_for(
      "the service to be ready", [&] { return http("GET", port(), "/readyz").status == 200; }, 30s);
}

testing::NatsServer& server() {
  static testing::NatsServer one;
  return one;
}

}  // namespace dmm::service_test
