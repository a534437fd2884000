#include "dmm/nats/messenger.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "dmm/nats/handle.h"
#include "dmm/nats/message.h"
#include "dmm/nats/options.h"

namespace dmm::nats {

namespace {

using transport::Note;
using transport::NoteHandler;

/// The part of a subscription that callbacks use. They keep it alive until libnats says that the
/// last one was called.
struct Slot {
  std::mutex mutex;  ///< held while the handler runs
  NoteHandler handler;
  Logger log;

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
  NatsSubscription(SubscriptionHandle handle, std::shared_ptr<Slot> slot)
      : handle_(std::move(handle)), slot_(std::move(slot)) {}
  ~NatsSubscription() override {
    {
      const std::lock_guard lock(slot_->mutex);
      slot_->handler = nullptr;
    }
    natsSubscription_Unsubscribe(handle_.get());
  }

 private:
  const SubscriptionHandle handle_;
  const std::shared_ptr<Slot> slot_;
};

class NatsMessenger final : public transport::Messenger,
                            public std::enable_shared_from_this<NatsMessenger> {
 public:
  NatsMessenger(ConnectionOptions options, Logger log)
      : options_(std::move(options)), log_(std::move(log)) {}
  ~NatsMessenger() override { NatsMessenger::close(); }

  void send(const Note& note) override {
    natsConnection* connection = connected();
    // What is buffered while disconnected would arrive when its sender has long given up.
    require_link(connection);
    const auto bytes_max = static_cast<std::size_t>(natsConnection_GetMaxPayload(connection));
    if (note.payload.size() > bytes_max) {
      throw Error(code::too_large, fmt::format("a message on {} has {} bytes, the server takes {}",
                                               note.subject, note.payload.size(), bytes_max));
    }
    const MessageHandle message =
        make_message(note.subject, note.reply, note.headers, note.payload);
    check(natsConnection_PublishMsg(connection, message.get()), "sending on " + note.subject);
  }

  std::unique_ptr<transport::Subscription> subscribe(const std::string& subject,
                                                     const std::string& group,
                                                     NoteHandler handler) override {
    natsConnection* connection = connected();
    auto slot = std::make_shared<Slot>();
    slot->handler = std::move(handler);
    slot->log = log_;
    // Deleted by on_end. Should the connection end before libnats knows of on_end, these few bytes
    // stay: a handler may be using them.
    auto* closure = new std::shared_ptr<Slot>(slot);
    SubscriptionHandle handle;
    const natsStatus status =
        group.empty() ? natsConnection_Subscribe(handle.out(), connection, subject.c_str(),
                                                 Slot::on_message, closure)
                      : natsConnection_QueueSubscribe(handle.out(), connection, subject.c_str(),
                                                      group.c_str(), Slot::on_message, closure);
    if (status != NATS_OK) delete closure;
    check(status, "listening on " + subject);
    check(natsSubscription_SetOnCompleteCB(handle.get(), Slot::on_end, closure),
          "setting a callback");
    auto subscription = std::make_unique<NatsSubscription>(std::move(handle), std::move(slot));
    check(natsConnection_FlushTimeout(connection, kFlushMs), "listening on " + subject);
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
    const std::lock_guard lock(mutex_);
    if (closed_.exchange(true) || !connection_) return;
    if (natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED) {
      natsConnection_FlushTimeout(connection_.get(), 1'000);
    }
    natsConnection_Close(connection_.get());
    std::unique_lock ended(ended_mutex_);
    ended_changed_.wait_for(ended, std::chrono::seconds(5), [this] { return ended_; });
  }

 private:
  static constexpr std::int64_t kFlushMs = 2'000;

  /// Connects if that was not done yet.
  natsConnection* connected() {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(code::closed, "the connection is closed");
    if (connection_) return connection_.get();
    const OptionsHandle handle = make_options(options_, true);
    natsOptions* raw = handle.get();
    // One thread for all handlers, instead of one for each: a gateway has thousands of devices.
    check(natsOptions_UseGlobalMessageDelivery(raw, true), "setting the delivery");
    check(natsOptions_SetErrorHandler(raw, on_error, this), "setting a callback");
    check(natsOptions_SetClosedCB(raw, on_closed, this), "setting a callback");
    check(natsOptions_SetReconnectedCB(raw, on_reconnected, this), "setting a callback");
    // Nothing fits into one byte: see send().
    check(natsOptions_SetReconnectBufSize(raw, 1), "setting the buffer");
    connection_ = connect_with(handle, options_);
    return connection_.get();
  }

  static void require_link(natsConnection* connection) {
    if (natsConnection_Status(connection) == NATS_CONN_STATUS_CONNECTED) return;
    throw Error(code::unreachable, "not connected to a server at the moment");
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

  static void on_reconnected(natsConnection*, void* closure) noexcept {
    auto& self = *static_cast<NatsMessenger*>(closure);
    if (self.closed_) return;
    const std::lock_guard lock(self.listeners_mutex_);
    for (const auto* listener : self.listeners_) (*listener)();
  }

  static void on_closed(natsConnection*, void* closure) noexcept {
    auto& self = *static_cast<NatsMessenger*>(closure);
    if (!self.closed_) self.log_.error("the server closed the connection to devices for good");
    const std::lock_guard lock(self.ended_mutex_);
    self.ended_ = true;
    self.ended_changed_.notify_all();
  }

  const ConnectionOptions options_;
  const Logger log_;
  std::mutex mutex_;  ///< guards connection_, which is set once
  ConnectionHandle connection_;
  std::atomic<bool> closed_{false};
  std::mutex listeners_mutex_;
  std::vector<std::function<void()>*> listeners_;
  std::mutex ended_mutex_;
  std::condition_variable ended_changed_;
  bool ended_ = false;
};

}  // namespace

std::shared_ptr<transport::Messenger> make_messenger(const ConnectionOptions& options, Logger log) {
  return std::make_shared<NatsMessenger>(options, std::move(log));
}

}  // namespace dmm::nats
