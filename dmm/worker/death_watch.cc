#include "dmm/worker/death_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <utility>

namespace dmm::worker {

namespace {

using std::chrono::milliseconds;

/// The event comes just before the lock is gone. The second look is for a kernel that was slow.
constexpr std::array<milliseconds, 2> kLooks{milliseconds(1), milliseconds(20)};

}  // namespace

DeathWatch::~DeathWatch() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    while (::write(end_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  if (events_ >= 0) ::close(events_);
  if (end_ >= 0) ::close(end_);
}

DeathWatch::Listener DeathWatch::listen(std::function<void()> may_have_died) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(begun_, true)) begin();
  return {*this, listeners_.insert(listeners_.end(), std::move(may_have_died))};
}

void DeathWatch::begin() {
  events_ = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  end_ = ::eventfd(0, EFD_CLOEXEC);
  // Files that are only read, as by those who look for locks, tell nothing.
  if (events_ < 0 || end_ < 0 ||
      ::inotify_add_watch(events_, directory_.c_str(), IN_CLOSE_WRITE) < 0) {
    return;
  }
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    // No thread is to be had: as without a watch.
  }
}

void DeathWatch::run() noexcept {
  while (true) {
    std::array<pollfd, 2> wait{{{end_, POLLIN, 0}, {events_, POLLIN, 0}}};
    if (::poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR) return;
    if ((wait[0].revents & POLLIN) != 0) return;
    // What is told is not looked at, nor that it was too much: whoever listens looks at all.
    std::array<char, 4096> told{};
    while (::read(events_, told.data(), told.size()) > 0) {
    }
    for (const milliseconds delay : kLooks) {
      if (::poll(wait.data(), 1, static_cast<int>(delay.count())) > 0) return;
      tell();
    }
  }
}

void DeathWatch::tell() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& may_have_died : listeners_) may_have_died();
}

DeathWatch::Listener::Listener(Listener&& other) noexcept
    : watch_(std::exchange(other.watch_, nullptr)), place_(other.place_) {}

DeathWatch::Listener& DeathWatch::Listener::operator=(Listener&& other) noexcept {
  std::swap(watch_, other.watch_);
  std::swap(place_, other.place_);
  return *this;
}

DeathWatch::Listener::~Listener() {
  if (watch_ == nullptr) return;
  const std::lock_guard lock(watch_->mutex_);
  watch_->listeners_.erase(place_);
}

}  // namespace dmm::worker
