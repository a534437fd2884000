#include "dmm/worker/report_waits.h"

#include <mutex>

#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::worker {

namespace {

using Clock = internal::SteadyClock;

constexpr std::size_t kGranted = 2'000;

}  // namespace

/// Reads the reports of one kind for those who wait for its devices.
class ReportWaits::KindReader final : private transport::ReaderSink {
 public:
  struct Waiter {
    std::string key;
    std::uint64_t number;
    Sequence after;
  };

  KindReader(ReportWaits& waits, const std::string& kind, Sequence after) : waits_(waits) {
    reader_ = waits.streams_.reports->read(
        {.filter = waits.streams_.names.report_filter(kind), .after = after, .headers_only = true},
        *this);
    reader_->grant(kGranted);
  }

  void add(const std::string& device, Waiter waiter) {
    const std::lock_guard lock(mutex_);
    waiters_.emplace(device, std::move(waiter));
  }

  void remove(const std::string& device, std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = waiters_.equal_range(device);
    for (auto one = first; one != last; ++one) {
      if (one->second.number != number) continue;
      waiters_.erase(one);
      break;
    }
    if (waiters_.empty()) idle_since_ = Clock::now();
  }

  bool idle() const {
    const std::lock_guard lock(mutex_);
    return waiters_.empty() && Clock::now() - idle_since_ > limits::report_reader_idle;
  }

 private:
  void on_message(transport::Message message) noexcept override {
    std::vector<Waiter> heard;
    if (const auto parts = wire::split_report(message.subject)) {
      const std::lock_guard lock(mutex_);
      const auto [first, last] = waiters_.equal_range(std::string(parts->device));
      for (auto one = first; one != last; ++one) {
        if (message.sequence > one->second.after) heard.push_back(one->second);
      }
    }
    tell(heard);
    if (++read_ >= kGranted / 2) {
      read_ = 0;
      waits_.mailbox_.post([this, alive = std::weak_ptr<int>(alive_)] {
        if (!alive.expired()) reader_->grant(kGranted / 2);
      });
    }
  }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override {
    // Nobody knows who reported: all look for themselves.
    std::vector<Waiter> all;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [device, waiter] : waiters_) all.push_back(waiter);
    }
    tell(all);
  }

  void tell(const std::vector<Waiter>& waiters) {
    for (const Waiter& waiter : waiters) {
      waits_.mailbox_.post([&waits = waits_, key = waiter.key, number = waiter.number] {
        waits.heard_of(key, number);
      });
    }
  }

  ReportWaits& waits_;
  mutable std::mutex mutex_;
  std::unordered_multimap<std::string, Waiter> waiters_;  ///< by device
  Clock::time_point idle_since_ = Clock::now();
  std::size_t read_ = 0;  ///< since the last grant; the reader's thread only
  const std::shared_ptr<int> alive_ = std::make_shared<int>();  ///< for what is in the mailbox
  std::unique_ptr<transport::Reader> reader_;                   ///< last: it ends first
};

ReportWaits::ReportWaits(const internal::Streams& streams, Mailbox& mailbox,
                         std::function<void(const std::string& key)> heard)
    : streams_(streams), mailbox_(mailbox), heard_(std::move(heard)) {}

ReportWaits::~ReportWaits() = default;

void ReportWaits::add(const std::string& key, const std::string& kind, const std::string& device,
                      Sequence after) {
  forget(key);
  auto& reader = readers_[kind];
  if (!reader) reader = std::make_unique<KindReader>(*this, kind, after);
  const std::uint64_t number = ++number_;
  waiting_.emplace(key, Wait{reader.get(), device, number});
  reader->add(device, {key, number, after});
  // A reader that was there before may have passed the report already.
  std::string subject = streams_.names.report_filter(kind);
  subject.replace(subject.size() - 1, 1, device);
  streams_.reports->last(
      std::move(subject),
      [this, key, number, after](const Result<std::optional<transport::Message>>& found) {
        if (!found.ok() || !found.value() || found.value()->sequence <= after) return;
        mailbox_.post([this, key, number] { heard_of(key, number); });
      });
}

void ReportWaits::forget(const std::string& key) {
  if (waiting_.empty()) return;  // the usual case, on the way of every identity
  const auto found = waiting_.find(key);
  if (found == waiting_.end()) return;
  found->second.reader->remove(found->second.device, found->second.number);
  waiting_.erase(found);
}

void ReportWaits::forget_all() {
  for (const auto& [key, wait] : waiting_) wait.reader->remove(wait.device, wait.number);
  waiting_.clear();
}

void ReportWaits::heard_of(const std::string& key, std::uint64_t number) {
  const auto found = waiting_.find(key);
  if (found == waiting_.end() || found->second.number != number) return;
  forget(key);
  heard_(key);
}

void ReportWaits::close_idle() {
  std::erase_if(readers_, [](const auto& reader) { return reader.second->idle(); });
}

void ReportWaits::close_all() {
  forget_all();
  readers_.clear();
}

}  // namespace dmm::worker
