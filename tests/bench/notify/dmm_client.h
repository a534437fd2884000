#pragma once

// The side of dmm in the area "notify": the public interface as a user writes against it, with its
// defaults, in one process.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dmm::bench {

class DmmClient final {
 public:
  using Seconds = std::chrono::duration<double>;

  /// Opens a namespace that is not used otherwise.
  /// song   fills the cache objects: {"current_song":song,"id":...,"plays":0}
  DmmClient(std::string url, std::string ns, std::string song);
  /// Removes its streams.
  ~DmmClient();
  DmmClient(const DmmClient&) = delete;
  DmmClient& operator=(const DmmClient&) = delete;

  /// Notifies identities 0 to count-1, pipelined; throws if one failed.
  Seconds notify(std::size_t count);

  /// Opens the namespace anew and works until the work stream is empty. From the call of work()
  /// until then, so the lease and the reading of the cache are part of it.
  /// write    each run changes its cache, so that the entry is written.
  Seconds drain(std::size_t count, bool write);

  /// Notifies `count` times, `identities` in turn, 64 in flight, while it works.
  Seconds steady(std::size_t count, std::size_t identities);

  struct Latencies {
    std::vector<Seconds> started;  ///< from the call of notify to the first line of materialize
    std::vector<Seconds> stored;   ///< from the call of notify until a follower of the bucket sees
                                   ///< the entry that the run wrote
  };
  /// Of identities that the worker meets for the first time, and has to read the entry of; and of
  /// the same ones when it has worked them before.
  struct ColdAndWarm {
    Latencies cold, warm;
  };
  /// Notifies `count` identities every `interval` on an idle system, and then once more.
  ColdAndWarm latencies(std::size_t count, std::chrono::milliseconds interval);

  std::uint64_t tokens_left();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::bench
