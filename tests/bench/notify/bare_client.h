#pragma once

// The baseline of the area "notify": what a careful programmer gets from libnats alone, with the
// same durable operations as dmm and nothing else: no leases, no retries, no attempts, no runs.
//
//   notify   one publish to a stream that keeps one message per subject
//   run      one delivery (consumer without acknowledgements, own pull requests of 1,000), one
//            write of the cache entry with the revision expected where the cache changed, one
//            delete by sequence; 256 tokens in flight
//
// It speaks JetStream over the core API, as dmm does, because natsSubscription_Fetch of libnats
// 3.4.1 writes behind its buffer. Not thread-safe.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dmm::bench {

inline constexpr const char* kBareClientIs =
    "libnats only: pull 1000 without acks, entry by expected revision, delete by sequence, 256 in "
    "flight";

class BareClient final {
 public:
  using Seconds = std::chrono::duration<double>;

  /// Creates stream and bucket of a namespace that is not used otherwise.
  BareClient(const std::string& url, const std::string& ns, std::string payload);
  /// Deletes them.
  ~BareClient();
  BareClient(const BareClient&) = delete;
  BareClient& operator=(const BareClient&) = delete;

  /// Stores the cache entries of identities 0 to count-1 and keeps their revisions.
  void store_entries(std::size_t count);

  /// Publishes a token for each of `count` identities, `window` in flight.
  Seconds publish(std::size_t count, std::size_t window);

  /// Reads every token, writes its entry if `write`, deletes it. From the creation of the consumer
  /// until the last delete is answered.
  Seconds drain(std::size_t count, bool write);

  /// Publishes `count` tokens of `identities` identities in turn, 64 in flight, while it drains.
  Seconds steady(std::size_t count, std::size_t identities);

  /// Publishes a token every `interval` on an idle system, both connections sending at once.
  /// Returns the time from the call of publish to the delivery, of each.
  std::vector<Seconds> latencies(std::size_t count, std::chrono::milliseconds interval);

  /// The time of a PING and its PONG on an idle system.
  std::vector<Seconds> round_trips(std::size_t count, std::chrono::milliseconds interval);

  /// Messages in the work stream; 0 proves that a drain did its work.
  std::uint64_t tokens_left();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::bench
