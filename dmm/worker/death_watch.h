#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>

namespace dmm::worker {

/// Tells at once when a process of this machine may have died. The kernel reports (inotify) that a
/// file which was open for writing was closed, and with a process it closes the file that this
/// kept locked (see LifeLocks). Where it gives no watch, because the user has too many, nothing is
/// told: whoever listens has to look by itself now and then.
///
/// Thread-safe.
class DeathWatch final {
 public:
  /// directory   of the locked files; it is there.
  explicit DeathWatch(std::string directory) : directory_(std::move(directory)) {}
  ~DeathWatch();
  DeathWatch(const DeathWatch&) = delete;
  DeathWatch& operator=(const DeathWatch&) = delete;

  class Listener final {
   public:
    Listener() = default;
    Listener(Listener&& other) noexcept;
    Listener& operator=(Listener&& other) noexcept;
    /// Nothing is told any more when this returns.
    ~Listener();

   private:
    friend class DeathWatch;
    using Listeners = std::list<std::function<void()>>;
    Listener(DeathWatch& watch, Listeners::iterator place) : watch_(&watch), place_(place) {}
    DeathWatch* watch_ = nullptr;  ///< outlives it
    Listeners::iterator place_;
  };

  /// may_have_died   called on a thread of the watch's own; must not block. Nobody has died for
  ///                 certain, and who has may have been known before.
  [[nodiscard]] Listener listen(std::function<void()> may_have_died);

 private:
  void begin();
  void run() noexcept;
  void tell() noexcept;

  const std::string directory_;
  std::mutex mutex_;  ///< guards what follows
  Listener::Listeners listeners_;
  bool begun_ = false;
  int events_ = -1;  ///< of inotify; constant once begun
  int end_ = -1;     ///< readable when the thread has to end
  std::thread thread_;
};

}  // namespace dmm::worker
