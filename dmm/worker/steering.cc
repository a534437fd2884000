#include "dmm/worker/steering.h"

#include "dmm/identity.h"
#include "dmm/internal/control_store.h"
#include "dmm/internal/runtime.h"
#include "dmm/limits.h"
#include "dmm/wire.h"

#include <algorithm>
#include <utility>

namespace dmm::worker {

/// Brings what is set to the owner's mailbox.
class Steering::Feed final : private transport::ReaderSink {
 public:
  Feed(Steering& steering, std::uint64_t number) : steering_(steering), number_(number) {
    reader_ = steering.streams_.status->read(
        {.filter = steering.streams_.names.status_subject(internal::kControlFilter), .after = {}},
        *this);
    reader_->grant(std::size_t{1} << 40);  // few and small: people make them
  }

 private:
  template <class Task>
  void post(Task task) {
    steering_.mailbox_.post([&steering = steering_, number = number_, task = std::move(task)] {
      if (number == steering.feeding_) task(steering);
    });
  }
  void on_message(transport::Message message) noexcept override {
    post([message = std::move(message)](Steering& steering) {
      if (steering.take(message) && steering.known_) steering.changed_();
    });
  }
  void on_caught_up() noexcept override {
    post([](Steering& steering) {
      steering.known_ = true;
      steering.set_again();
      steering.changed_();
    });
  }
  void on_history_lost(std::string) noexcept override {
    post([](Steering& steering) {
      steering.read_since_loss_.emplace();
      steering.resumed_ = {};
    });
  }

  Steering& steering_;
  const std::uint64_t number_;
  std::unique_ptr<transport::Reader> reader_;  ///< last: it ends first
};

Steering::Steering(const internal::Streams& streams, Mailbox& mailbox, std::string type,
                   std::function<void()> changed)
    : streams_(streams), mailbox_(mailbox), type_(std::move(type)), changed_(std::move(changed)) {}

Steering::~Steering() = default;

void Steering::start() {
  if (feed_) return;
  forget();
  feed_ = std::make_unique<Feed>(*this, ++feeding_);
}

void Steering::stop() {
  feed_.reset();
  ++feeding_;
}

const Pause* Steering::paused() const noexcept {
  if (all_) return &*all_;
  return whole_type_ ? &*whole_type_ : nullptr;
}

void Steering::pause(std::string reason) {
  const PauseScope scope{type_, {}};
  whole_type_ = Pause{scope, std::move(reason), "dmm", internal::SystemClock::now()};
  own_pause_ = ++own_pauses_;
  streams_.status->publish({.subject = streams_.names.status_subject(internal::pause_key(scope)),
                            .payload = internal::pause_text(*whole_type_)},
                           limits::publish_deadline,
                           [this, own = own_pause_](const Result<Sequence>& result) {
                             if (result.ok()) return;
                             // Nobody else could see it, nor end it: the next failures try again.
                             // But what has come since stands: a person's pause, or this one.
                             mailbox_.post([this, own] {
                               if (own_pause_ != own) return;
                               whole_type_.reset();
                               changed_();
                             });
                           });
}

bool Steering::take(const transport::Message& message) {
  const std::string_view key = streams_.names.status_key(message.subject);
  const bool removed = wire::is_removed(message);
  if (read_since_loss_) read_since_loss_->emplace(key);
  if (key == internal::policy_key(type_)) {
    policy_ = removed ? std::string() : message.payload;
    return true;
  }
  auto scope = internal::parse_pause_key(key);
  if (!scope || (!scope->type.empty() && scope->type != type_)) return false;
  if (removed && !scope->id) resumed_ = std::max(resumed_, message.sequence);
  std::optional<Pause> pause;
  if (!removed) pause = internal::parse_pause(*scope, message);
  if (scope->type.empty()) {
    all_ = std::move(pause);
  } else if (!scope->id) {
    whole_type_ = std::move(pause);
    own_pause_ = 0;
  } else if (pause) {
    identities_.insert_or_assign(key_of({scope->type, *scope->id}), std::move(*pause));
  } else {
    identities_.erase(key_of({scope->type, *scope->id}));
  }
  return true;
}

/// What the bucket has lost is in force still, and is set again: a pause that ends because a disk
/// did would let loose what somebody wanted to stop.
void Steering::set_again() {
  if (!read_since_loss_) return;
  const auto read = *std::exchange(read_since_loss_, std::nullopt);
  const auto set = [&](const std::string& key, const std::string& text) {
    if (read.contains(key)) return;
    streams_.log.warn("a setting was lost and is set again", {{"key", key}});
    streams_.status->publish({.subject = streams_.names.status_subject(key),
                              .payload = text,
                              .expected_last = Sequence{}},
                             limits::publish_deadline, [](const Result<Sequence>&) {});
  };
  if (!policy_.empty()) set(internal::policy_key(type_), policy_);
  if (all_) set(internal::pause_key(all_->scope), internal::pause_text(*all_));
  if (whole_type_) set(internal::pause_key(whole_type_->scope), internal::pause_text(*whole_type_));
  for (const auto& [key, pause] : identities_) {
    set(internal::pause_key(pause.scope), internal::pause_text(pause));
  }
}

void Steering::forget() {
  read_since_loss_.reset();
  known_ = false;
  all_.reset();
  whole_type_.reset();
  own_pause_ = 0;
  resumed_ = {};
  identities_.clear();
  policy_.clear();
}

}  // namespace dmm::worker
