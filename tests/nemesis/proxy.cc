#include "tests/nemesis/proxy.h"

#include "dmm/testing/free_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/nemesis/proxy_link.h"

namespace dmm::nemesis {

namespace {

constexpr int kListenTries = 5;  // another program may take a free port first
constexpr int kBacklog = 64;
constexpr int kIdleMs = 1'000;

constexpr std::array<std::string_view, kTroubles> kNames{
    "none",    "reset",     "cut",   "refuse",  "stall", "half-open",
    "drop up", "drop down", "delay", "trickle", "slice"};

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void make_quick(const Socket& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Socket listen_on(std::uint16_t port) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address = loopback(port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return Socket();
  }
  return socket;
}

/// A connection to a port of this machine; closed if nobody listens. A frozen process listens.
Socket dial(std::uint16_t port) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in address = loopback(port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
      errno != EINPROGRESS) {
    return Socket();
  }
  make_quick(socket);
  return socket;
}

}  // namespace

std::string_view to_string(Trouble trouble) noexcept {
  return kNames[static_cast<std::size_t>(trouble)];
}

bool severs(Trouble trouble) noexcept {
  switch (trouble) {
    case Trouble::refuse:
    case Trouble::stall:
    case Trouble::half_open:
    case Trouble::drop_up:
    case Trouble::drop_down:
      return true;
    default:
      return false;
  }
}

struct Proxy::Impl {
  struct Route {
    std::uint16_t target;
    Socket listener;
  };

  explicit Impl(const std::vector<std::uint16_t>& targets, std::uint64_t seed) : random(seed) {
    for (const std::uint16_t target : targets) add_route(target);
    wake = Socket(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.open()) throw std::runtime_error("cannot make an eventfd");
  }

  void add_route(std::uint16_t target) {
    for (int left = kListenTries; left > 0; --left) {
      const std::uint16_t port = testing::free_port();
      Socket listener = listen_on(port);
      if (!listener.open()) continue;
      ports.push_back(port);
      routes.push_back({target, std::move(listener)});
      return;
    }
    throw std::runtime_error("the proxy cannot listen");
  }

  void serve(const std::stop_token& stop);
  void take_news();
  void accept_from(const Route& route);
  int patience(Link::Clock::time_point now) const;
  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake.get(), &one, sizeof one);
  }

  std::vector<std::uint16_t> ports;
  std::vector<Route> routes;
  Socket wake;
  std::mt19937_64 random;
  Trouble trouble = Trouble::none;
  std::vector<std::unique_ptr<Link>> links;

  std::mutex mutex;
  std::vector<Trouble> asked;  ///< troubles in the order in which they were set

  std::jthread thread;  ///< last: it uses the rest
};

void Proxy::Impl::take_news() {
  std::vector<Trouble> news;
  {
    const std::lock_guard lock(mutex);
    news.swap(asked);
  }
  for (const Trouble next : news) {
    trouble = next;
    for (const auto& link : links) link->meet(next);
    if (next == Trouble::reset || next == Trouble::cut) trouble = Trouble::none;
  }
}

void Proxy::Impl::accept_from(const Route& route) {
  Socket client(::accept4(route.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.open()) return;
  if (trouble == Trouble::refuse) return client.reset();
  make_quick(client);
  Socket server = dial(route.target);
  if (!server.open()) return client.reset();
  links.push_back(std::make_unique<Link>(std::move(client), std::move(server)));
  if (trouble != Trouble::none) links.back()->meet(trouble);
}

/// How long poll(2) may wait, in milliseconds.
int Proxy::Impl::patience(Link::Clock::time_point now) const {
  if (trouble == Trouble::stall) return kIdleMs;
  auto due = Link::Clock::time_point::max();
  for (const auto& link : links) due = std::min(due, link->due());
  if (due <= now) return kIdleMs;  // it waits for room in a socket, and poll(2) tells of that
  if (due - now > std::chrono::milliseconds(kIdleMs)) return kIdleMs;
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(due - now).count());
}

void Proxy::Impl::serve(const std::stop_token& stop) {
  std::vector<pollfd> files;
  while (!stop.stop_requested()) {
    const auto now = Link::Clock::now();
    files.clear();
    files.push_back({wake.get(), POLLIN, 0});
    for (const Route& route : routes) files.push_back({route.listener.get(), POLLIN, 0});
    const std::size_t first_link = files.size();
    for (const auto& link : links) {
      // An end that nothing is wanted of is left out: poll(2) always tells of its hang-up.
      const short client = link->client_events(trouble, now);
      const short server = link->server_events(trouble, now);
      files.push_back({client != 0 ? link->client() : -1, client, 0});
      files.push_back({server != 0 ? link->server() : -1, server, 0});
    }
    const int ready = ::poll(files.data(), files.size(), patience(now));
    if (ready < 0) continue;
    if (files[0].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake.get(), &count, sizeof count);
    }
    for (std::size_t i = 0; i < links.size(); ++i) {
      const std::size_t at = first_link + 2 * i;
      links[i]->move(trouble, files[at].revents, files[at + 1].revents, random);
    }
    take_news();
    for (std::size_t i = 0; i < routes.size(); ++i) {
      if (files[1 + i].revents != 0) accept_from(routes[i]);
    }
    std::erase_if(links, [](const auto& link) { return link->over(); });
  }
}

Proxy::Proxy(std::vector<std::uint16_t> targets, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(targets, seed)) {
  impl_->thread = std::jthread([impl = impl_.get()](std::stop_token stop) { impl->serve(stop); });
}

Proxy::~Proxy() {
  impl_->thread.request_stop();
  impl_->ring();
}

const std::vector<std::uint16_t>& Proxy::ports() const noexcept {
  return impl_->ports;
}

void Proxy::set(Trouble trouble) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->asked.push_back(trouble);
  }
  impl_->ring();
}

}  // namespace dmm::nemesis
