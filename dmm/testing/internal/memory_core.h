#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/memory_log.h"
#include "dmm/testing/memory_server.h"
#include "dmm/transport/messenger.h"

namespace dmm::testing {

class MemoryConnection;

/// The inside of a MemoryServer: its streams, who is connected, who listens. Thread-safe.
///
/// Its mutex guards the readers of all connections as well (dmm/testing/internal/memory_reader.h);
/// while it is held nothing is called but what wakes couriers.
class MemoryCore final {
 public:
  explicit MemoryCore(MemoryServerOptions options) : options_(options) {}

  std::uint64_t payload_bytes_max() const noexcept { return options_.payload_bytes_max; }
  std::mutex& mutex() noexcept { return mutex_; }

  // ---- streams; the errors are those of transport::Stream
  /// The state of the stream, which is created if it is missing and `create` says so.
  transport::StreamState open(const transport::StreamConfig& config, bool create);
  bool remove(std::string_view name);
  bool takes(std::string_view subject) const;
  /// Nothing if no stream takes the subject.
  std::optional<Result<Sequence>> publish(
      const transport::Publication& publication,
      std::optional<std::chrono::system_clock::time_point> at = {});
  Result<std::optional<transport::Message>> last(const std::string& name,
                                                 const std::string& subject) const;
  Result<bool> erase(const std::string& name, Sequence sequence);
  std::optional<transport::StreamState> state(std::string_view name) const;
  std::vector<std::string> subjects(const std::string& name, std::string_view filter) const;
  /// The subject of a stored message; empty if there is none.
  std::string subject_of(const std::string& name, Sequence sequence) const;
  std::optional<transport::Message> look(const std::string& subject) const;
  /// The configurations of the streams, by name.
  std::vector<transport::StreamConfig> configs() const;
  void recreate(const std::string& name, std::string created);
  void lose_last(const std::string& name, std::uint64_t count);
  std::size_t readers(std::string_view name) const;

  // ---- with the mutex held
  MemoryLog* log(std::string_view name);
  const MemoryLog* log(std::string_view name) const;
  /// Creates a stream that a reader misses.
  void bring_back(const transport::StreamConfig& config);

  // ---- connections
  void attach(MemoryConnection& connection);
  void detach(MemoryConnection& connection);
  /// All connections that are there are lost and made again.
  void reconnect_all();

  // ---- messages that are passed on
  /// Who gets notes on a subject.
  struct Listener {
    std::string filter;
    std::string group;
    const MemoryConnection* connection = nullptr;         ///< ends with it
    std::function<void(const transport::Note&)> deliver;  ///< does not block
  };
  std::uint64_t listen(Listener listener);
  void unlisten(std::uint64_t number);
  void send(const transport::Note& note);

  // ---- for those who look on
  /// Called for each message that is stored, in order, with the mutex held.
  using Witness = std::function<void(const transport::Message& message)>;
  void set_witness(Witness witness);
  /// Grows with each message that is stored or erased, but for leases and status.
  std::uint64_t changes() const;
  /// The readers who were not given all there is, as "<stream> <filter>".
  std::vector<std::string> behind() const;

 private:
  using Logs = std::map<std::string, MemoryLog, std::less<>>;

  Logs::iterator create(const transport::StreamConfig& config, std::string created);
  std::string next_created();
  std::chrono::system_clock::time_point now() const;
  MemoryLog* taker(std::string_view subject);
  /// sequence   of the message that was stored; 0: one went, or was stored before.
  void changed(const MemoryLog& log, Sequence sequence = {});
  void look_again(std::string_view name);
  std::size_t pass(const transport::Note& note);
  void answer_direct_get(const transport::Note& note);

  const MemoryServerOptions options_;
  mutable std::mutex mutex_;
  Logs logs_;
  std::vector<MemoryConnection*> connections_;  ///< in the order in which they came
  std::map<std::uint64_t, Listener> listeners_;
  std::uint64_t listened_ = 0;
  std::uint64_t turn_ = 0;  ///< whose turn it is in groups
  std::uint64_t changes_ = 0;
  std::chrono::system_clock::time_point last_created_;
  Witness witness_;
  // The server's clock does not jump when that of whoever calls it does.
  const std::chrono::system_clock::time_point began_ = internal::SystemClock::now();
  const std::chrono::steady_clock::time_point began_steady_ = internal::SteadyClock::now();
};

}  // namespace dmm::testing
