#pragma once

// How workers of one machine know at once that another one has died. A lease outlives its holder by
// up to a TTL, because silence alone proves nothing. Here the kernel proves it: each holder of
// leases keeps a file of its name locked (flock) while its process lives, and whoever can lock the
// file of another knows that its process has ended. A process that is stopped, that hangs or that
// cannot reach the server keeps its lock. A process that a signal ends says in the file which run
// it was in (last_words.h).

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "dmm/worker/death_watch.h"
#include "dmm/worker/last_words.h"

namespace dmm::worker {

/// Thread-safe. Several processes use one directory.
class LifeLocks final {
 public:
  /// directory   of this machine, made with mode 0700 if it is missing.
  /// throws      Error{invalid} DMM-0404 if it cannot be made or if others can write to it: whoever
  ///             can write there decides who counts as dead.
  explicit LifeLocks(std::string directory);

  /// Keeps the file of a holder locked until it is destroyed or the process ends.
  class Lock final {
   public:
    Lock() = default;
    Lock(Lock&& other) noexcept;
    Lock& operator=(Lock&& other) noexcept;
    ~Lock();

   private:
    friend class LifeLocks;
    Lock(int file, std::string path) noexcept;
    int file_ = -1;
    std::string path_;
  };

  /// holder   a name that was never used before: letters, digits, '-' and '_'.
  /// Returns a Lock of nothing if the file cannot be made: this holder is then waited for as one of
  /// another machine.
  Lock lock(std::string_view holder) const noexcept;

  /// True once the process of this holder is known to have ended. False says nothing.
  bool is_dead(std::string_view holder) const noexcept;

  /// As DeathWatch::listen, for those whose files lie here.
  [[nodiscard]] DeathWatch::Listener listen(std::function<void()> may_have_died) const {
    return watch_->listen(std::move(may_have_died));
  }

  /// In which run the process of this holder ended, if it is known to be dead and could say so.
  LastWords last_words(std::string_view holder) const noexcept;

 private:
  void clear() const;

  const std::string directory_;
  const std::string kernel_;  ///< the boot of this machine; a lock says nothing about another's
  const std::unique_ptr<DeathWatch> watch_;
};

}  // namespace dmm::worker
