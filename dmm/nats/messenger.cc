#include "dmm/nats/messenger.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "dmm/nats/handle.h"
#include "dmm/nats/message.h"
#include "dmm/nats/options.h"
#include "dmm/nats/renewal.h"

namespace dmm::nats {

namespace {

using transport::Note;
using transport::NoteHandler;

/// The part of a subscription that callbacks use. They keep it alive until libnats says that the
/// last one was called.
struct Slot {
  const std::string subject;
  const std::string group;
  const Logger log;
  std::mutex mutex;  ///< held while the handler runs
  NoteHandler handler;
  std::mutex handle_mutex;  ///< guards what follows
  SubscriptionHandle handle;
  bool ended = false;

  Slot(std::string on, std::string among, NoteHandler call, Logger to)
      : subject(std::move(on)),
        group(std::move(among)),
        log(std::move(to)),
        handler(std::move(call)) {}

  /// Listens on this connection, and no longer on one before.
  void listen(const std::shared_ptr<Slot>& self, natsConnection* connection) {
    const std::lock_guard lock(handle_mutex);
    if (ended) return;
    // Deleted by on_end. Should the connection end before libnats knows of on_end, these few bytes
    // stay: a handler may be using them.
    auto* closure = new std::shared_ptr<Slot>(self);
    SubscriptionHandle fresh;
    const natsStatus status =
        group.empty() ? natsConnection_Subscribe(fresh.out(), connection, subject.c_str(),
                                                 on_message, closure)
                      : natsConnection_QueueSubscribe(fresh.out(), connection, subject.c_str(),
                                                      group.c_str(), on_message, closure);
    if (status != NATS_OK) delete closure;
    check(status, "listening on " + subject);
    check(natsSubscription_SetOnCompleteCB(fresh.get(), on_end, closure), "setting a callback");
    handle = std::move(fresh);
  }

  void end() {
    {
      const std::lock_guard lock(mutex);
      handler = nullptr;
    }
    const std::lock_guard lock(handle_mutex);
    ended = true;
    natsSubscription_Unsubscribe(handle.get());
    handle.reset();
  }

  static void on_message(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) noexcept {
    const MessageHandle message(raw);
    Slot& slot = **static_cast<std::shared_ptr<Slot>*>(closure);
    try {
      Incoming incoming = copy_message(message.get());
      Note note{std::move(incoming.subject), std::move(incoming.reply), std::move(incoming.headers),
                std::move(incoming.payload), incoming.status == 503};
      const std::lock_guard lock(slot.mutex);
      if (slot.handler) slot.handler(std::move(note));
    } catch (const std::exception& e) {
      slot.log.error("a message could not be handled", {{"error", e.what()}});
    }
  }
  static void on_end(void* closure) noexcept {
    delete static_cast<std::shared_ptr<Slot>*>(closure);
  }
};

class NatsSubscription final : public transport::Subscription {
 public:
  explicit NatsSubscription(std::shared_ptr<Slot> slot) : slot_(std::move(slot)) {}
  ~NatsSubscription() override { slot_->end(); }

 private:
  const std::shared_ptr<Slot> slot_;
};

class NatsMessenger final : public transport::Messenger,
                            public std::enable_shared_from_this<NatsMessenger> {
 public:
  NatsMessenger(ConnectionOptions options, Logger log)
      : options_(std::move(options)),
        log_(std::move(log)),
        renewal_([this] { return closed_ || is_open(get()); }, [this] { renew(); }, log_) {}
  ~NatsMessenger() override { NatsMessenger::close(); }

  void send(const Note& note) override {
    const Shared connection = connected();
    // What is buffered while disconnected would arrive when its sender has long given up.
    require_link(connection);
    const auto bytes_max =
        static_cast<std::size_t>(natsConnection_GetMaxPayload(connection->get()));
    if (note.payload.size() > bytes_max) {
      throw Error(code::too_large, fmt::format("a message on {} has {} bytes, the server takes {}",
                                               note.subject, note.payload.size(), bytes_max));
    }
    const MessageHandle message =
        make_message(note.subject, note.reply, note.headers, note.payload);
    check(natsConnection_PublishMsg(connection->get(), message.get()),
          "sending on " + note.subject);
  }

  std::unique_ptr<transport::Subscription> subscribe(const std::string& subject,
                                                     const std::string& group,
                                                     NoteHandler handler) override {
    const Shared connection = connected();
    auto slot = std::make_shared<Slot>(subject, group, std::move(handler), log_);
    auto subscription = std::make_unique<NatsSubscription>(slot);
    slot->listen(slot, connection->get());
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(slots_, [](const auto& weak) { return weak.expired(); });
      slots_.push_back(slot);
      // One that was made meanwhile does not know it.
      if (connection_ != connection) slot->listen(slot, connection_->get());
    }
    check(natsConnection_FlushTimeout(connection->get(), kFlushMs), "listening on " + subject);
    return subscription;
  }

  std::shared_ptr<void> on_reconnect(std::function<void()> listener) override {
    auto* const raw = new std::function<void()>(std::move(listener));
    const std::lock_guard lock(listeners_mutex_);
    listeners_.push_back(raw);
    return {raw, [self = shared_from_this()](std::function<void()>* ended) {
              // A listener is called with this held: destroying its token waits for it.
              const std::lock_guard waiting(self->listeners_mutex_);
              std::erase(self->listeners_, ended);
              delete ended;
            }};
  }

  void close() override {
    if (closed_.exchange(true)) return;
    renewal_.stop();
    const Shared connection = get();
    if (!connection) return;
    if (is_open(connection)) natsConnection_FlushTimeout(connection->get(), 1'000);
    natsConnection_Close(connection->get());
    std::unique_lock ended(ended_mutex_);
    ended_changed_.wait_for(ended, std::chrono::seconds(5), [this] { return ended_ >= begun_; });
  }

 private:
  static constexpr std::int64_t kFlushMs = 2'000;

  using Shared = std::shared_ptr<const ConnectionHandle>;  ///< by whoever is just using it

  static bool is_open(const Shared& connection) noexcept {
    return connection && natsConnection_Status(connection->get()) == NATS_CONN_STATUS_CONNECTED;
  }

  Shared get() {
    const std::lock_guard lock(mutex_);
    return connection_;
  }

  /// Connects if that was not done yet.
  Shared connected() {
    const std::lock_guard lock(connecting_mutex_);
    if (closed_) throw Error(code::closed, "the connection is closed");
    if (Shared open = get()) return open;
    Shared fresh = connect();
    const std::lock_guard set(mutex_);
    connection_ = fresh;
    renewal_.start();
    return fresh;
  }

  Shared connect() {
    const OptionsHandle handle = make_options(options_, true);
    natsOptions* raw = handle.get();
    // One thread for all handlers, instead of one for each: a gateway has thousands of devices.
    check(natsOptions_UseGlobalMessageDelivery(raw, true), "setting the delivery");
    check(natsOptions_SetErrorHandler(raw, on_error, this), "setting a callback");
    check(natsOptions_SetClosedCB(raw, on_closed, this), "setting a callback");
    check(natsOptions_SetDisconnectedCB(raw, on_disconnected, this), "setting a callback");
    check(natsOptions_SetReconnectedCB(raw, on_reconnected, this), "setting a callback");
    // Nothing fits into one byte: see send().
    check(natsOptions_SetReconnectBufSize(raw, 1), "setting the buffer");
    auto fresh = std::make_shared<const ConnectionHandle>(connect_with(handle, options_));
    const std::lock_guard lock(ended_mutex_);
    ++begun_;
    return fresh;
  }

  /// On the thread of the renewal.
  void renew() {
    const Shared fresh = connect();
    // Before the new one listens, so that nothing comes twice.
    natsConnection_Close(get()->get());
    {
      const std::lock_guard lock(mutex_);
      connection_ = fresh;
      for (const auto& weak : slots_) {
        if (const auto slot = weak.lock()) slot->listen(slot, fresh->get());
      }
    }
    log_.info("connected to devices anew");
    announce_reconnect();
  }

  static void require_link(const Shared& connection) {
    if (is_open(connection)) return;
    throw Error(code::unreachable, "not connected to a server at the moment");
  }

  void announce_reconnect() {
    const std::lock_guard lock(listeners_mutex_);
    for (const auto* listener : listeners_) (*listener)();
  }

  static void on_error(natsConnection* connection, natsSubscription*, natsStatus status,
                       void* closure) noexcept {
    const auto& self = *static_cast<NatsMessenger*>(closure);
    if (self.closed_) return;
    const char* detail = nullptr;
    natsConnection_GetLastError(connection, &detail);
    const bool said = detail != nullptr && *detail != '\0';
    self.log_.warn("the server reports an error",
                   {{"error", std::string(said ? detail : natsStatus_GetText(status))}});
  }

  static void on_disconnected(natsConnection*, void* closure) noexcept {
    auto& self = *static_cast<NatsMessenger*>(closure);
    if (!self.closed_) self.renewal_.look(false);
  }

  static void on_reconnected(natsConnection*, void* closure) noexcept {
    auto& self = *static_cast<NatsMessenger*>(closure);
    if (!self.closed_) self.announce_reconnect();
  }

  static void on_closed(natsConnection*, void* closure) noexcept {
    auto& self = *static_cast<NatsMessenger*>(closure);
    if (!self.closed_) self.renewal_.look(true);
    const std::lock_guard lock(self.ended_mutex_);
    ++self.ended_;
    self.ended_changed_.notify_all();
  }

  const ConnectionOptions options_;
  const Logger log_;
  std::mutex connecting_mutex_;  ///< held while the first connection is made
  std::mutex mutex_;             ///< guards what follows
  Shared connection_;
  std::vector<std::weak_ptr<Slot>> slots_;
  std::atomic<bool> closed_{false};
  std::mutex listeners_mutex_;
  std::vector<std::function<void()>*> listeners_;
  std::mutex ended_mutex_;
  std::condition_variable ended_changed_;
  int begun_ = 0;  ///< connections
  int ended_ = 0;
  Renewal renewal_;
};

}  // namespace

std::shared_ptr<transport::Messenger> make_messenger(const ConnectionOptions& options, Logger log) {
  return std::make_shared<NatsMessenger>(options, std::move(log));
}

}  // namespace dmm::nats
