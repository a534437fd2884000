#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "dmm/internal/runtime.h"
#include "dmm/internal/streams.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// Has every identity of a type run again at an interval, whatever is known of it: what changed in
/// the world without a word is found so.
///
/// An identity is due at the same place of each interval, by the hash of its key: the runs spread
/// over the interval, and workers that follow each other go on where the one before was. What fell
/// due while nobody worked is not made up for. An identity that has a token anyway is left alone,
/// and so is one that has lost its entry since the keys were read: it was removed.
/// Owner only, as the mailbox runs it; attend() and stop() on the owner's own thread.
class Resync final {
 public:
  using Clock = internal::SteadyClock;

  /// mine   whether an identity is this worker's to tell.
  Resync(const internal::Streams& streams, Mailbox& mailbox, std::string type,
         std::function<bool(const std::string& key)> mine);
  ~Resync();

  /// interval   0: off.
  void set(std::chrono::milliseconds interval);
  /// Tells what is due. Returns when there is more to do.
  Clock::time_point turn(Clock::time_point now);
  /// Begins and ends the reading of the keys.
  void attend();
  void stop();

  /// Runs an identity again that has an entry and no token, if it is this worker's.
  void tell(const std::string& key);

  /// Identities that were told.
  std::uint64_t told() const noexcept { return telling_->told; }

 private:
  class Keys;
  void begin_round(std::chrono::milliseconds now);
  void take(std::vector<std::string> keys);
  void tell_again(Clock::time_point now);
  bool owes() const;

  const internal::Streams& streams_;
  Mailbox& mailbox_;
  const std::string type_;
  const std::function<bool(const std::string& key)> mine_;
  std::chrono::milliseconds interval_{0};
  std::chrono::milliseconds round_{0};    ///< when the present interval began, Unix time
  std::uint64_t rounds_ = 0;              ///< counts them
  std::chrono::milliseconds skipped_{0};  ///< of the present interval: nobody was there
  std::unique_ptr<Keys> reading_;
  std::uint64_t reading_round_ = 0;
  bool read_ = false;  ///< the keys of this round are there
  /// Place in the interval and key, in order.
  std::vector<std::pair<std::chrono::milliseconds, std::string>> due_;
  std::size_t next_ = 0;
  std::vector<std::string> again_;  ///< once more, the last one first
  Clock::time_point again_at_{};
  /// Outlives this with the answers.
  struct Telling {
    void ended(const std::string& key, bool done) {
      if (!done) {
        const std::lock_guard lock(mutex);
        failed.push_back(key);
      }
      --under_way;
    }
    std::vector<std::string> take_failed() {
      const std::lock_guard lock(mutex);
      return std::exchange(failed, {});
    }
    std::atomic<std::size_t> under_way = 0;
    std::atomic<std::uint64_t> told = 0;
    std::mutex mutex;
    std::vector<std::string> failed;  ///< the server did not do it: once more
  };
  const std::shared_ptr<Telling> telling_ = std::make_shared<Telling>();
};

}  // namespace dmm::worker
