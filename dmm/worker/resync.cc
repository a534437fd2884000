#include "dmm/worker/resync.h"

#include <algorithm>
#include <optional>

#include "dmm/identity.h"
#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

namespace dmm::worker {

using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

constexpr std::size_t kTellingMax = 256;  ///< work that somebody waits for goes before
constexpr milliseconds kSoon(50);
constexpr milliseconds kAgain(1'000);

milliseconds unix_now() {
  return std::chrono::duration_cast<milliseconds>(internal::SystemClock::now().time_since_epoch());
}

std::uint64_t fnv1a_64(std::string_view text) noexcept {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  return hash ^ (hash >> 29);
}

}  // namespace

/// Reads the keys of all entries of the type.
class Resync::Keys final : private transport::ReaderSink {
 public:
  Keys(Resync& resync, std::uint64_t round) : resync_(resync), round_(round) {
    reader_ =
        resync.streams_.cache->read({.filter = resync.streams_.names.entry_filter(resync.type_),
                                     .after = {},
                                     .headers_only = true},
                                    *this);
    reader_->grant(std::size_t{1} << 40);
  }

 private:
  void on_message(transport::Message message) noexcept override {
    if (wire::is_removed(message)) return;
    keys_.emplace_back(resync_.streams_.names.entry_key(message.subject));
  }
  void on_caught_up() noexcept override {
    resync_.mailbox_.post([&resync = resync_, round = round_, keys = std::move(keys_)]() mutable {
      if (round == resync.rounds_) resync.take(std::move(keys));
    });
  }
  void on_history_lost(std::string) noexcept override { keys_.clear(); }

  Resync& resync_;
  const std::uint64_t round_;
  std::vector<std::string> keys_;              ///< the reader's thread only
  std::unique_ptr<transport::Reader> reader_;  ///< last: it ends first
};

Resync::Resync(const internal::Streams& streams, Mailbox& mailbox, std::string type,
               std::function<bool(const std::string& key)> mine)
    : streams_(streams), mailbox_(mailbox), type_(std::move(type)), mine_(std::move(mine)) {}

Resync::~Resync() = default;

void Resync::set(milliseconds interval) {
  if (interval == interval_) return;
  interval_ = interval;
  due_.clear();
  read_ = false;
  round_ = milliseconds(0);
  ++rounds_;        // keys that are being read are of an interval that is over,
  mailbox_.wake();  // and the reading ends on the owner's own thread
}

Resync::Clock::time_point Resync::turn(Clock::time_point now) {
  tell_again(now);
  const Clock::time_point look_again = owes() ? now + kAgain : Clock::time_point::max();
  if (interval_.count() == 0) return look_again;
  const milliseconds unix = unix_now();
  // A round that takes longer than the interval is finished first.
  const bool told_all = read_ && next_ == due_.size();
  const bool clock_went_back = unix + interval_ < round_;
  if (round_.count() == 0 || (told_all && unix >= round_ + interval_) || clock_went_back) {
    begin_round(unix);
  }
  if (!read_) return now + std::chrono::seconds(1);
  while (next_ < due_.size() && round_ + due_[next_].first <= unix) {
    if (telling_->under_way >= kTellingMax) return now + kSoon;
    tell(due_[next_++].second);
  }
  const milliseconds until = next_ < due_.size() ? round_ + due_[next_].first : round_ + interval_;
  return std::min(look_again, now + (until - unix));
}

/// What the server did not do is not put off until the next round.
void Resync::tell_again(Clock::time_point now) {
  if (again_.empty()) {
    again_ = telling_->take_failed();
    again_at_ = now + kAgain;
  }
  while (now >= again_at_ && !again_.empty() && telling_->under_way < kTellingMax) {
    tell(again_.back());
    again_.pop_back();
  }
}

/// Whether something was told that the server has not done.
bool Resync::owes() const {
  if (!again_.empty() || telling_->under_way > 0) return true;
  const std::lock_guard lock(telling_->mutex);
  return !telling_->failed.empty();
}

/// What fell due before now was somebody else's, or nobody's.
void Resync::begin_round(milliseconds now) {
  const bool first = round_.count() == 0;
  round_ = now - milliseconds(now.count() % interval_.count());
  read_ = false;
  due_.clear();
  next_ = 0;
  ++rounds_;
  // A round that follows the one before owes all of it, also what the reading of the keys delays.
  skipped_ = first ? now - round_ : milliseconds(0);
  mailbox_.wake();  // reading begins on the owner's own thread
}

void Resync::take(std::vector<std::string> keys) {
  due_.clear();
  due_.reserve(keys.size());
  const auto length = static_cast<std::uint64_t>(interval_.count());
  for (std::string& key : keys) {
    due_.emplace_back(static_cast<milliseconds::rep>(fnv1a_64(key) % length), std::move(key));
  }
  std::ranges::sort(due_);
  next_ = 0;
  while (next_ < due_.size() && due_[next_].first < skipped_) ++next_;
  read_ = true;
}

void Resync::attend() {
  if (interval_.count() == 0 || read_) {
    reading_.reset();
  } else if (!reading_ || reading_round_ != rounds_) {
    reading_.reset();
    reading_round_ = rounds_;
    reading_ = std::make_unique<Keys>(*this, rounds_);
  }
}

void Resync::stop() {
  reading_.reset();
  ++rounds_;
  due_.clear();
  again_.clear();
  telling_->take_failed();
  read_ = false;
  round_ = milliseconds(0);
}

void Resync::tell(const std::string& key) {
  const auto identity = parse_key(key);
  if (!identity || !mine_(key)) return;
  ++telling_->under_way;
  // The keys were read hours ago, perhaps. Without an entry materialize would build anew what was
  // torn down.
  streams_.cache->last(
      streams_.names.entry_subject(key),
      [telling = telling_, work = streams_.work, key,
       subject = streams_.names.token_subject(*identity)](
          const Result<std::optional<transport::Message>>& entry) {
        if (!entry.ok()) return telling->ended(key, false);
        if (!entry.value() || wire::is_removed(*entry.value())) return telling->ended(key, true);
        // A token that is there runs it anyway, and its news must not go.
        work->publish({.subject = subject, .expected_last = Sequence{0}}, limits::publish_deadline,
                      [telling, key](const Result<Sequence>& stored) {
                        if (stored.ok()) ++telling->told;
                        const bool done = stored.ok() || stored.error().kind() == Kind::conflict ||
                                          stored.error().kind() == Kind::invalid;
                        telling->ended(key, done);
                      });
      });
}

}  // namespace dmm::worker
