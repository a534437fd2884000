#pragma once

// A MemoryServer is what a nats-server with JetStream is to dmm, in the memory of a test: streams
// that keep one message for each subject, conditional publishes, readers with a cursor of their
// own, and messages that are passed on without being stored. It is held to the same suite of tests
// as the real one (tests/testing/), on what dmm relies on.
//
// A copy is the same server. The streams live as long as a copy or a connection does. Thread-safe.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "dmm/testing/faults.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

class MemoryCore;
class MemoryTransport;

struct MemoryServerOptions {
  std::uint64_t payload_bytes_max = 1 << 20;  ///< of a message, as nats-server's max_payload
};

/// What a restart loses: the newest messages, as a server that lost power before it had written
/// them.
struct Loss {
  Part stream = Part::any;
  std::uint64_t messages = 0;
};

class MemoryServer final {
 public:
  explicit MemoryServer(MemoryServerOptions options = {});

  /// A connection, as a program has it, with faults of its own.
  /// seed   of its faults; none: DMM_SEED of the environment, else drawn.
  std::shared_ptr<MemoryTransport> connect(std::optional<std::uint64_t> seed = {}) const;

  // What nobody hears of but by its effects. No fault strikes it.

  /// Stores a message in the stream that takes its subject. Throws Error{not_found} DMM-0107.
  /// at   when it was stored; nothing: now.
  Sequence put(std::string subject, std::string payload, transport::Headers headers = {},
               std::optional<std::chrono::system_clock::time_point> at = {});
  /// The last message of a subject.
  std::optional<transport::Message> look(const std::string& subject) const;

  // What happens to servers.

  /// All connections are lost and made again; what `loss` names is gone. Readers go on behind what
  /// they were given, or say that history was lost.
  void restart(Loss loss = {});
  /// Other streams take the place of these, empty, created at another time: readers say that
  /// history was lost.
  void recreate(Part stream = Part::any);

 private:
  friend class MemoryTransport;
  friend struct Backstage;
  explicit MemoryServer(std::shared_ptr<MemoryCore> core) : core_(std::move(core)) {}

  std::shared_ptr<MemoryCore> core_;
};

}  // namespace dmm::testing
