#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "dmm/control.h"
#include "dmm/internal/streams.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// The policy and the pauses of one type, as people and tools set them, followed while a worker
/// works. Owner only, as the mailbox runs it; stop() on the owner's own thread.
class Steering final {
 public:
  /// changed   called when something of it is another than before, and when all is known.
  Steering(const internal::Streams& streams, Mailbox& mailbox, std::string type,
           std::function<void()> changed);
  ~Steering();

  /// Begins to follow, if it does not yet.
  void start();
  void stop();

  /// What is set has been read: before, nobody knows what is paused.
  bool known() const noexcept { return known_; }
  /// The pause that stops the type, if one does.
  const Pause* paused() const noexcept;
  bool paused(const std::string& key) const {
    return !identities_.empty() && identities_.contains(key);
  }
  /// Of the message in the status bucket that ended a pause of the type last; 0: none did.
  Sequence resumed() const noexcept { return resumed_; }
  /// The text of the policy as it lies there; empty: none.
  const std::string& policy() const noexcept { return policy_; }

  /// Pauses the type, at once here and then for all. Not waited for.
  void pause(std::string reason);

 private:
  class Feed;
  /// True if something changed.
  bool take(const transport::Message& message);
  void forget();
  void set_again();

  const internal::Streams& streams_;
  Mailbox& mailbox_;
  const std::string type_;
  const std::function<void()> changed_;
  bool known_ = false;
  std::optional<Pause> all_;
  std::optional<Pause> whole_type_;
  /// The last pause of our own making, counted; 0 once the feed brought anything of this scope.
  std::uint64_t own_pause_ = 0;
  std::uint64_t own_pauses_ = 0;
  Sequence resumed_;
  std::unordered_map<std::string, Pause> identities_;  ///< by key
  std::string policy_;
  /// The bucket lost its history: the keys that were read since, until all is read.
  std::optional<std::set<std::string, std::less<>>> read_since_loss_;
  std::uint64_t feeding_ = 0;  ///< counts feeds: what an ended one brought is dropped
  std::unique_ptr<Feed> feed_;
};

}  // namespace dmm::worker
