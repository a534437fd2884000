#include "tests/nemesis/proxy_link.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace dmm::nemesis {

namespace {

constexpr std::size_t kReadBytes = 64u << 10;
constexpr std::size_t kWayBytesMax = 1u << 20;  ///< more is left to the sender's socket
constexpr std::size_t kTrickleBytesPerSecond = 100'000;
constexpr std::size_t kTricklePiece = 1'000;
constexpr std::size_t kSliceMax = 64;
constexpr int kDelayMinMs = 100;
constexpr int kDelayMaxMs = 1'000;

std::size_t between(std::size_t low, std::size_t high, std::mt19937_64& random) {
  return std::uniform_int_distribution<std::size_t>(low, high)(random);
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

void Socket::reset() noexcept {
  if (fd_ < 0) return;
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(std::exchange(fd_, -1));
}

void Link::reset() noexcept {
  client_.reset();
  server_.reset();
  over_ = true;
}

short Link::events(const Way& in, const Way& out, bool reads, Clock::time_point now) const {
  short events = 0;
  if (reads && !in.ended && !cut_ && in.bytes < kWayBytesMax) events |= POLLIN;
  if (out.due(now)) events |= POLLOUT;
  return events;
}

short Link::client_events(Trouble trouble, Clock::time_point now) const {
  return trouble == Trouble::stall ? short{0} : events(up_, down_, true, now);
}

short Link::server_events(Trouble trouble, Clock::time_point now) const {
  return trouble == Trouble::stall ? short{0} : events(down_, up_, server_.open(), now);
}

Link::Clock::time_point Link::due() const {
  auto earliest = Clock::time_point::max();
  for (const Way* way : {&up_, &down_}) {
    if (!way->pieces.empty()) earliest = std::min(earliest, way->pieces.front().due);
  }
  return earliest;
}

void Link::meet(Trouble trouble) {
  switch (trouble) {
    case Trouble::none:
      if (lost_bytes_) reset();
      return;
    case Trouble::reset:
    case Trouble::refuse:
      return reset();
    case Trouble::cut:
      cut_next_ = true;
      return;
    case Trouble::half_open:
      server_.reset();
      lost_bytes_ = true;
      return;
    default:
      return;
  }
}

void Link::move(Trouble trouble, short client_ready, short server_ready, std::mt19937_64& random) {
  if (trouble == Trouble::stall) return;
  const bool silent = trouble == Trouble::half_open;
  if ((client_ready & (POLLIN | POLLHUP | POLLERR)) != 0) {
    take(client_, up_, trouble, silent || trouble == Trouble::drop_up, random);
  }
  if (!over_ && server_.open() && (server_ready & (POLLIN | POLLHUP | POLLERR)) != 0) {
    take(server_, down_, trouble, trouble == Trouble::drop_down, random);
  }
  if (!over_ && !silent) {
    send(server_, up_);
    if (!over_) send(client_, down_);
  }
  if (over_) return;
  const bool sent_all = up_.pieces.empty() && down_.pieces.empty();
  if (cut_ && sent_all) return reset();
  // One end said goodbye: what it had said before arrives, then the other one is told.
  if ((up_.ended && up_.pieces.empty()) || (down_.ended && down_.pieces.empty())) over_ = true;
}

void Link::take(Socket& from, Way& way, Trouble trouble, bool drop, std::mt19937_64& random) {
  if (way.ended || cut_) return;
  std::string bytes(kReadBytes, '\0');
  const ssize_t n = ::recv(from.get(), bytes.data(), bytes.size(), 0);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) reset();
    return;
  }
  if (n == 0) {
    way.ended = true;
    return;
  }
  if (drop) {
    lost_bytes_ = true;
    return;
  }
  bytes.resize(static_cast<std::size_t>(n));
  if (cut_next_) {
    bytes.resize(bytes.size() / 2);
    cut_ = true;
  }
  queue(way, std::move(bytes), trouble, random);
}

void Link::queue(Way& way, std::string bytes, Trouble trouble, std::mt19937_64& random) {
  const auto now = Clock::now();
  const auto add = [&](std::string piece, Clock::time_point due) {
    way.last_due = std::max(way.last_due, due);
    way.bytes += piece.size();
    way.pieces.push_back({std::move(piece), 0, way.last_due});
  };
  if (trouble == Trouble::delay) {
    const std::chrono::milliseconds late(between(kDelayMinMs, kDelayMaxMs, random));
    return add(std::move(bytes), now + late);
  }
  if (trouble != Trouble::slice && trouble != Trouble::trickle) return add(std::move(bytes), now);
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t size =
        trouble == Trouble::slice ? between(1, kSliceMax, random) : kTricklePiece;
    std::string piece = bytes.substr(at, size);
    at += piece.size();
    auto due = now;
    if (trouble == Trouble::trickle) {
      due = std::max(now, way.last_due) +
            std::chrono::microseconds(piece.size() * 1'000'000 / kTrickleBytesPerSecond);
    }
    add(std::move(piece), due);
  }
}

void Link::send(Socket& to, Way& way) {
  const auto now = Clock::now();
  while (way.due(now)) {
    Piece& piece = way.pieces.front();
    const ssize_t n = ::send(to.get(), piece.bytes.data() + piece.sent,
                             piece.bytes.size() - piece.sent, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN && errno != EINTR) reset();
      return;
    }
    piece.sent += static_cast<std::size_t>(n);
    way.bytes -= static_cast<std::size_t>(n);
    if (piece.sent < piece.bytes.size()) return;
    way.pieces.pop_front();
  }
}

}  // namespace dmm::nemesis
