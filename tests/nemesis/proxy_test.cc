// Goal: the proxy does to connections what each trouble says, and nothing when there is none.
// Method: a server in this process that sends back what it gets, and a client of it.

#include "tests/nemesis/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "dmm/testing/wait_for.h"
#include "tests/nemesis/proxy_link.h"

using namespace dmm::nemesis;

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPatienceMs = 5'000;
/// Long enough for what is not held back to arrive.
constexpr int kSilenceMs = 150;

sockaddr_in address_of(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// Sends back what it gets.
class Echo final {
 public:
  Echo() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = address_of(0);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    REQUIRE(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  std::uint16_t port() const { return port_; }

 private:
  void serve(const std::stop_token& stop) {
    std::vector<Socket> clients;
    while (!stop.stop_requested()) {
      std::vector<pollfd> files{{listener_.get(), POLLIN, 0}};
      for (const Socket& client : clients) files.push_back({client.get(), POLLIN, 0});
      if (::poll(files.data(), files.size(), 20) <= 0) continue;
      for (std::size_t i = clients.size(); i > 0; --i) {
        if (files[i].revents == 0) continue;
        char buffer[4'096];
        const ssize_t n = ::recv(files[i].fd, buffer, sizeof buffer, 0);
        if (n <= 0 || ::send(files[i].fd, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL) < 0) {
          clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(i) - 1);
        }
      }
      if (files[0].revents != 0) {
        clients.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      }
    }
  }

  Socket listener_;
  std::uint16_t port_ = 0;
  std::jthread thread_;
};

class Client final {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in address = address_of(port);
    REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
  }
  void say(const std::string& text) { REQUIRE(try_say(text)); }
  /// False if the connection is over.
  bool try_say(const std::string& text) {
    return ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  /// Up to `size` bytes: fewer when the connection ends or is silent for `patience` ms.
  std::string hear(std::size_t size, int patience = kPatienceMs) {
    std::string text;
    while (text.size() < size) {
      pollfd file{socket_.get(), POLLIN, 0};
      if (::poll(&file, 1, patience) <= 0) break;
      char buffer[4'096];
      const ssize_t n =
          ::recv(socket_.get(), buffer, std::min(sizeof buffer, size - text.size()), 0);
      if (n < 0) was_reset_ = errno == ECONNRESET;
      if (n <= 0) break;
      text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
  }
  /// Waits for a reset, over what still arrives.
  bool is_reset() {
    hear(1'000'000);
    return was_reset_;
  }

 private:
  Socket socket_;
  bool was_reset_ = false;
};

struct Scene {
  Echo echo;
  Proxy proxy{{echo.port()}};
  Client client{proxy.ports().at(0)};

  Scene() {
    client.say("hello");
    REQUIRE(client.hear(5) == "hello");
  }
};

}  // namespace

TEST_CASE("proxy: without trouble everything passes", "[nemesis][unit]") {
  Scene scene;
  std::string much;
  for (int i = 0; i < 100'000; ++i) much += static_cast<char>('a' + i % 26);
  std::jthread speaker([&] { scene.client.say(much); });
  CHECK(scene.client.hear(much.size()) == much);
}

TEST_CASE("proxy: a reset ends what there is and lets new connections pass", "[nemesis][unit]") {
  Scene scene;
  scene.proxy.set(Trouble::reset);
  CHECK(scene.client.is_reset());
  Client other(scene.proxy.ports()[0]);
  other.say("again");
  CHECK(other.hear(5) == "again");
}

TEST_CASE("proxy: a cut lets half of what comes next pass", "[nemesis][unit]") {
  Scene scene;
  scene.proxy.set(Trouble::cut);
  Client other(scene.proxy.ports()[0]);  // made behind it, so that it is known to have happened
  other.say("new");
  REQUIRE(other.hear(3) == "new");
  scene.client.say("0123456789");
  // Half went up; what came back of it may have been overtaken by the reset.
  const std::string heard = scene.client.hear(10);
  CHECK(std::string("01234").starts_with(heard));
  CHECK(scene.client.is_reset());
}

TEST_CASE("proxy: who is refused is reset until it is mended", "[nemesis][unit]") {
  Scene scene;
  scene.proxy.set(Trouble::refuse);
  CHECK(scene.client.is_reset());
  Client other(scene.proxy.ports()[0]);
  CHECK(other.is_reset());
  scene.proxy.set(Trouble::none);
  const auto passes = [&] {
    Client third(scene.proxy.ports()[0]);
    return third.try_say("again") && third.hear(5) == "again";
  };
  CHECK(dmm::testing::becomes_true(passes, std::chrono::seconds(5)));
}

TEST_CASE("proxy: what is stalled arrives when it is mended", "[nemesis][unit]") {
  Scene scene;
  scene.proxy.set(Trouble::stall);
  REQUIRE(scene.client.hear(1, kSilenceMs).empty());  // it is in force
  scene.client.say("late");
  CHECK(scene.client.hear(4, kSilenceMs).empty());
  scene.proxy.set(Trouble::none);
  CHECK(scene.client.hear(4) == "late");
}

TEST_CASE("proxy: who is on a half open connection hears nothing until it is mended",
          "[nemesis][unit]") {
  Scene scene;
  scene.proxy.set(Trouble::half_open);
  REQUIRE(scene.client.hear(1, kSilenceMs).empty());
  scene.client.say("anyone?");
  CHECK(scene.client.hear(7, kSilenceMs).empty());
  scene.proxy.set(Trouble::none);
  CHECK(scene.client.is_reset());
}

TEST_CASE("proxy: one direction is lost and the connection reset when it is mended",
          "[nemesis][unit]") {
  const Trouble trouble = GENERATE(Trouble::drop_up, Trouble::drop_down);
  INFO(to_string(trouble));
  Scene scene;
  scene.proxy.set(trouble);
  REQUIRE(scene.client.hear(1, kSilenceMs).empty());
  scene.client.say("lost");
  CHECK(scene.client.hear(4, kSilenceMs).empty());
  scene.proxy.set(Trouble::none);
  CHECK(scene.client.is_reset());
}

TEST_CASE("proxy: what is slow arrives in order and whole", "[nemesis][unit]") {
  const Trouble trouble = GENERATE(Trouble::delay, Trouble::trickle, Trouble::slice);
  INFO(to_string(trouble));
  Scene scene;
  scene.proxy.set(trouble);
  REQUIRE(scene.client.hear(1, kSilenceMs).empty());
  std::string text;
  for (int i = 0; i < 3'000; ++i) text += static_cast<char>('a' + i % 26);
  const auto begin = Clock::now();
  scene.client.say(text);
  CHECK(scene.client.hear(text.size()) == text);
  if (trouble == Trouble::delay) CHECK(Clock::now() - begin > std::chrono::milliseconds(100));
  if (trouble == Trouble::trickle) CHECK(Clock::now() - begin > std::chrono::milliseconds(20));
  scene.proxy.set(Trouble::none);
  scene.client.say("fast");
  CHECK(scene.client.hear(4) == "fast");
}

TEST_CASE("proxy: where nobody listens behind it connections are reset", "[nemesis][unit]") {
  std::uint16_t port = 0;
  {
    const Echo gone;
    port = gone.port();
  }
  const Proxy proxy({port});
  Client client(proxy.ports()[0]);
  CHECK(client.is_reset());
}
