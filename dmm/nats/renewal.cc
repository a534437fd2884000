#include "dmm/nats/renewal.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace dmm::nats {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr milliseconds kFirst{250};
constexpr milliseconds kLibraryFirst{2'000};  ///< as long as libnats may try by itself
constexpr milliseconds kMax{5'000};
/// A connection that was lost again so soon is made anew more and more seldom.
constexpr seconds kSteady{30};
constexpr seconds kSayAgain{30};

}  // namespace

Renewal::Renewal(std::function<bool()> whole, std::function<void()> renew, Logger log)
    : whole_(std::move(whole)), renew_(std::move(renew)), log_(std::move(log)) {}

Renewal::~Renewal() {
  stop();
}

void Renewal::start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Renewal::stop() noexcept {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
}

void Renewal::look(bool for_good) noexcept {
  const std::lock_guard lock(mutex_);
  lost_ = true;
  for_good_ = for_good_ || for_good;
  changed_.notify_all();
}

std::string Renewal::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void Renewal::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return lost_; })) {
    lost_ = false;
    if (Clock::now() - renewed_at_ > kSteady) delay_ = milliseconds(0);
    while (!stop.stop_requested()) {
      delay_ = std::clamp(delay_ * 2, kFirst, kMax);
      // Whoever gives up for good says so within the first wait.
      const auto due = Clock::now() + delay_;
      const auto at_latest = Clock::now() + std::max(delay_, kLibraryFirst);
      changed_.wait_until(lock, stop, at_latest, [this] { return for_good_; });
      changed_.wait_until(lock, stop, due, [] { return false; });
      if (stop.stop_requested()) return;
      lock.unlock();
      attempt();
      const bool whole = whole_();
      lock.lock();
      if (!whole) continue;
      for_good_ = false;
      trouble_.clear();
      break;
    }
  }
}

void Renewal::attempt() {
  if (whole_()) return;
  try {
    renew_();
    renewed_at_ = Clock::now();
    said_.clear();
  } catch (const Error& error) {
    note(error);
  } catch (const std::exception& e) {
    note(Error(code::unreachable, e.what()));
  }
}

void Renewal::note(const Error& error) {
  const std::string text = fmt::format("{}: {}", error.code().id, error.message());
  {
    const std::lock_guard lock(mutex_);
    trouble_ = text;
  }
  const auto now = Clock::now();
  if (text == said_ && now - said_at_ < kSayAgain) return;
  said_ = text;
  said_at_ = now;
  const bool refused = &error.code() == &code::access_denied;
  log_.log(refused ? Level::error : Level::warn,
           refused ? "the server refuses this program; it is asked again"
                   : "no connection can be made; it is tried again",
           {{"code", error.code().id}, {"error", error.message()}, {"remedy", error.remedy()}});
}

}  // namespace dmm::nats
