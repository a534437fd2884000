#pragma once

// A Proxy is a stretch of network that can be broken: it listens on ports of 127.0.0.1 and passes
// what it gets to other ports there, and back.
//
// Lifecycle: the constructor listens; the destructor closes everything. Thread-safe; a thread of
// its own does the work.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dmm::nemesis {

/// What is wrong with the network.
enum class Trouble : std::uint8_t {
  none,
  reset,      ///< every connection is reset, once; new ones pass
  cut,        ///< the same, but each in the middle of what it carries next
  refuse,     ///< every connection is reset, and so are new ones
  stall,      ///< nothing moves, nothing is lost: a frozen switch
  half_open,  ///< the server's ends are closed and the clients are not told; new ones meet silence
  drop_up,    ///< what clients send is lost, what they are sent arrives
  drop_down,  ///< the other way round
  delay,      ///< everything arrives 0.1 to 1 s late, in order
  trickle,    ///< 100 kB/s
  slice,      ///< pieces of 1 to 64 bytes
};
inline constexpr int kTroubles = 11;

std::string_view to_string(Trouble trouble) noexcept;

/// Whether a peer behind it is as good as dead while it lasts.
bool severs(Trouble trouble) noexcept;

class Proxy final {
 public:
  /// targets   ports of 127.0.0.1; each gets a port here.
  /// throws    std::runtime_error if it cannot listen.
  explicit Proxy(std::vector<std::uint16_t> targets, std::uint64_t seed = 1);
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  /// The ports to connect to, in the order of the targets.
  const std::vector<std::uint16_t>& ports() const noexcept;

  /// Breaks the network. `none` mends it: connections that have lost bytes are reset, the others go
  /// on.
  void set(Trouble trouble);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::nemesis
