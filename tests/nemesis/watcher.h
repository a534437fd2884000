#pragma once

// A Watcher follows the cache entries of the scene on a path that is never broken, and says what
// the streams hold. It reads the messages as any client could.
//
// Thread-safe, but for history(), which comes after stop().

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/limits.h"
#include "dmm/transport/stream.h"
#include "tests/nemesis/history.h"
#include "tests/nemesis/world.h"

namespace dmm::nemesis {

class Watcher final : private transport::ReaderSink {
 public:
  /// servers   URLs. The streams of the namespace exist.
  explicit Watcher(const std::vector<std::string>& servers, int replicas);
  ~Watcher() override;

  /// Lets more be read; to be called often.
  void keep_reading();

  /// In how many lanes an entry was stored after `time`.
  std::size_t lanes_since(Nanoseconds time) const;

  std::uint64_t history_losses() const noexcept { return history_losses_; }
  /// Messages that were no entry of the scene.
  std::uint64_t strange() const noexcept { return strange_; }

  /// Tokens in the work stream.
  struct Tokens {
    std::uint64_t outstanding = 0;
    /// The entry says that they are done: a crash of the server brought back what was deleted.
    std::uint64_t done = 0;
  };
  /// Throws Error{retry}.
  Tokens tokens();
  /// Readers that the server keeps for the work stream. Throws Error{retry}.
  std::uint64_t readers();

  /// Ends the watch with one look at every entry, and returns what was seen.
  std::vector<Entry> stop();

 private:
  void on_message(transport::Message message) noexcept override;
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string reason) noexcept override;
  void take(const transport::Message& message);

  std::shared_ptr<transport::Transport> transport_;
  std::shared_ptr<transport::Stream> cache_;
  std::shared_ptr<transport::Stream> work_;
  std::string filter_;

  std::atomic<std::uint64_t> seen_{0};
  std::atomic<std::uint64_t> history_losses_{0};
  std::atomic<std::uint64_t> strange_{0};
  std::uint64_t granted_ = 0;
  std::array<std::atomic<Nanoseconds>, limits::lanes> latest_{};
  /// By identity: the token that its entry came from.
  std::array<std::atomic<std::uint64_t>, kIdentitiesMax> done_{};
  std::mutex mutex_;
  std::vector<Entry> history_;

  std::unique_ptr<transport::Reader> reader_;  ///< last: it calls the rest
};

}  // namespace dmm::nemesis
