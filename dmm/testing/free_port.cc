#include "dmm/testing/free_port.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <random>
#include <set>

#include "dmm/error.h"

namespace dmm::testing {

namespace {

constexpr int kLowest = 10'000;
constexpr int kHighestUsual = 32'767;
constexpr int kTries = 1'000;

// One less than where the system begins with the ports of outgoing connections.
int highest_port() {
  std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
  int first_ephemeral = 0;
  if (file >> first_ephemeral && first_ephemeral > kLowest + kTries) {
    return std::min(first_ephemeral - 1, 65'535);
  }
  return kHighestUsual;
}

bool can_listen(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return false;
  // As servers do it: a connection of an earlier server that is still in TIME_WAIT is no obstacle.
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool free =
      ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      ::listen(socket, 1) == 0;
  ::close(socket);
  return free;
}

}  // namespace

std::uint16_t free_port() {
  static std::mutex mutex;
  static std::set<std::uint16_t> given;
  static std::mt19937 random{std::random_device{}()};
  const std::lock_guard lock(mutex);
  std::uniform_int_distribution<int> ports(kLowest, highest_port());
  for (int i = 0; i < kTries; ++i) {
    const auto port = static_cast<std::uint16_t>(ports(random));
    if (!given.contains(port) && can_listen(port)) {
      given.insert(port);
      return port;
    }
  }
  throw Error(code::server_refused,
              fmt::format("no free port of 127.0.0.1 was found in {} tries", kTries));
}

}  // namespace dmm::testing
