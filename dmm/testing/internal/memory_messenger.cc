#include "dmm/testing/internal/memory_messenger.h"

#include <fmt/format.h>

#include <utility>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"
#include "dmm/testing/internal/memory_connection.h"

namespace dmm::testing {

namespace {

using transport::Note;
using transport::NoteHandler;

/// What a subscription and the notes on their way to it share. The notes come on one thread.
struct Slot {
  std::mutex mutex;
  internal::Condition changed;
  bool busy = false;  ///< the handler runs
  bool ended = false;
  NoteHandler handler;

  void take(const Note& note) {
    {
      const std::lock_guard lock(mutex);
      if (ended) return;
      busy = true;
    }
    handler(note);
    const std::lock_guard lock(mutex);
    busy = false;
    changed.notify_all();
  }
  /// Returns when the handler does not run and never will again.
  void end() {
    std::unique_lock lock(mutex);
    ended = true;
    changed.wait(lock, [this] { return !busy; });
    handler = nullptr;
  }
};

class MemorySubscription final : public transport::Subscription {
 public:
  MemorySubscription(std::shared_ptr<MemoryCore> core, std::uint64_t number,
                     std::shared_ptr<Slot> slot)
      : core_(std::move(core)), number_(number), slot_(std::move(slot)) {}
  ~MemorySubscription() override {
    core_->unlisten(number_);
    slot_->end();
  }
  MemorySubscription(const MemorySubscription&) = delete;
  MemorySubscription& operator=(const MemorySubscription&) = delete;

 private:
  const std::shared_ptr<MemoryCore> core_;
  const std::uint64_t number_;
  const std::shared_ptr<Slot> slot_;
};

}  // namespace

void MemoryMessenger::send(const Note& note) {
  require_link();
  const std::uint64_t bytes_max = connection_.core().payload_bytes_max();
  if (note.payload.size() > bytes_max) {
    throw Error(code::too_large, fmt::format("a message on {} has {} bytes, the server takes {}",
                                             note.subject, note.payload.size(), bytes_max));
  }
  connection_.core().send(note);
}

std::unique_ptr<transport::Subscription> MemoryMessenger::subscribe(const std::string& subject,
                                                                    const std::string& group,
                                                                    NoteHandler handler) {
  require_link();
  auto slot = std::make_shared<Slot>();
  slot->handler = std::move(handler);
  const std::uint64_t number = connection_.core().listen(
      {subject, group, &connection_, [weak = std::weak_ptr(courier()), slot](const Note& note) {
         const auto courier = weak.lock();
         if (courier) courier->post([slot, note] { slot->take(note); });
       }});
  return std::make_unique<MemorySubscription>(connection_.shared_core(), number, std::move(slot));
}

std::shared_ptr<void> MemoryMessenger::on_reconnect(std::function<void()> listener) {
  courier();
  auto* const raw = new std::function<void()>(std::move(listener));
  const std::lock_guard lock(listeners_->mutex);
  listeners_->all.push_back(raw);
  return {raw, [listeners = listeners_](std::function<void()>* ended) {
            // A listener is called with this held: destroying its token waits for it.
            const std::lock_guard waiting(listeners->mutex);
            std::erase(listeners->all, ended);
            delete ended;
          }};
}

void MemoryMessenger::close() {
  std::shared_ptr<Courier> courier;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    courier = courier_;
  }
  if (courier) courier->close();
}

void MemoryMessenger::reconnected() {
  const std::lock_guard lock(mutex_);
  if (!courier_) return;
  courier_->post([listeners = listeners_] {
    const std::lock_guard calling(listeners->mutex);
    for (const auto* listener : listeners->all) (*listener)();
  });
}

void MemoryMessenger::require_link() {
  const std::lock_guard lock(mutex_);
  if (closed_) throw Error(code::closed, "the connection is closed");
  if (!connection_.linked()) {
    throw Error(code::unreachable, "not connected to a server at the moment");
  }
}

std::shared_ptr<Courier> MemoryMessenger::courier() {
  const std::lock_guard lock(mutex_);
  if (closed_) throw Error(code::closed, "the connection is closed");
  if (!courier_) courier_ = std::make_shared<Courier>();
  return courier_;
}

}  // namespace dmm::testing
