#pragma once

// One connection through a proxy: two sockets and what is on its way between them. Used by the
// proxy's thread.

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "tests/nemesis/proxy.h"

namespace dmm::nemesis {

/// A socket that closes itself.
class Socket final {
 public:
  explicit Socket(int fd = -1) noexcept : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  int get() const noexcept { return fd_; }
  bool open() const noexcept { return fd_ >= 0; }
  /// Closes it so that the peer gets a reset instead of an end.
  void reset() noexcept;

 private:
  int fd_;
};

class Link final {
 public:
  using Clock = std::chrono::steady_clock;

  Link(Socket client, Socket server) : client_(std::move(client)), server_(std::move(server)) {}

  /// What poll(2) is to wait for at each end as of `now`, and when the next piece is due.
  short client_events(Trouble trouble, Clock::time_point now) const;
  short server_events(Trouble trouble, Clock::time_point now) const;
  Clock::time_point due() const;

  int client() const noexcept { return client_.get(); }
  int server() const noexcept { return server_.get(); }

  /// Moves what can be moved.
  void move(Trouble trouble, short client_ready, short server_ready, std::mt19937_64& random);

  /// What a new trouble does to it at once.
  void meet(Trouble trouble);

  bool over() const noexcept { return over_; }

 private:
  struct Piece {
    std::string bytes;
    std::size_t sent = 0;
    Clock::time_point due;
  };
  struct Way {
    std::deque<Piece> pieces;
    std::size_t bytes = 0;
    Clock::time_point last_due{};
    bool ended = false;  ///< the sender will send no more

    bool due(Clock::time_point now) const { return !pieces.empty() && pieces.front().due <= now; }
  };

  short events(const Way& in, const Way& out, bool reads, Clock::time_point now) const;
  /// Reads what a socket has and queues it, shaped by the trouble.
  void take(Socket& from, Way& way, Trouble trouble, bool drop, std::mt19937_64& random);
  void queue(Way& way, std::string bytes, Trouble trouble, std::mt19937_64& random);
  void send(Socket& to, Way& way);
  void reset() noexcept;

  Socket client_;
  Socket server_;
  Way up_;
  Way down_;
  bool lost_bytes_ = false;
  bool cut_next_ = false;  ///< of what comes next only the first half passes
  bool cut_ = false;       ///< reset as soon as what is queued has left
  bool over_ = false;
};

}  // namespace dmm::nemesis
