#include "dmm/nats/connection.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <future>

#include "dmm/limits.h"
#include "dmm/nats/options.h"
#include "dmm/wire.h"

namespace dmm::nats {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Connection::Inbox::Slot {
  std::mutex mutex;  ///< held while the handler runs, so that closing can wait for it
  InboxHandler handler;
};

Connection::Inbox::Inbox(Connection& connection, InboxHandler handler)
    : connection_(connection), slot_(std::make_shared<Slot>()) {
  slot_->handler = std::move(handler);
  const std::lock_guard lock(connection_.mutex_);
  id_ = connection_.next_id_++;
  prefix_ = fmt::format("{}.i.{}", connection_.bulk_.inbox, id_);
  connection_.inboxes_.emplace(id_, slot_);
}

Connection::Inbox::~Inbox() {
  {
    const std::lock_guard lock(connection_.mutex_);
    connection_.inboxes_.erase(id_);
    connection_.followed_.erase(followed_);
  }
  const std::lock_guard lock(slot_->mutex);
  slot_->handler = nullptr;
}

void Connection::Inbox::follow(std::string consumer) {
  const std::lock_guard lock(connection_.mutex_);
  connection_.followed_.erase(followed_);
  connection_.followed_.emplace(consumer, slot_);
  followed_ = std::move(consumer);
}

Connection::Connection(const ConnectionOptions& options, Logger log) : log_(std::move(log)) {
  urgent_.channel = Channel::urgent;
  bulk_.channel = Channel::bulk;
  try {
    connect(urgent_, options);
    connect(bulk_, options);
  } catch (...) {
    close();
    throw;
  }
  timer_thread_ = std::jthread([this](const std::stop_token& stop) { run_timers(stop); });
}

Connection::~Connection() {
  close();
}

void Connection::connect(Link& link, const ConnectionOptions& options) {
  link.owner = this;
  link.inbox = fmt::format("_INBOX.{}", wire::unique_id());
  const OptionsHandle handle = make_options(options, link.channel == Channel::urgent);
  natsOptions* raw = handle.get();
  check(natsOptions_SetDisconnectedCB(raw, on_disconnected, &link), "setting a callback");
  check(natsOptions_SetReconnectedCB(raw, on_reconnected, &link), "setting a callback");
  check(natsOptions_SetClosedCB(raw, on_closed, &link), "setting a callback");
  check(natsOptions_SetErrorHandler(raw, on_error, &link), "setting a callback");
  link.connection = nats::connect_with(handle, options);
  payload_bytes_max_ =
      static_cast<std::size_t>(natsConnection_GetMaxPayload(link.connection.get()));
  check(natsConnection_Subscribe(link.subscription.out(), link.connection.get(),
                                 (link.inbox + ".>").c_str(), on_message, &link),
        "subscribing to the inbox");
  check(natsSubscription_SetOnCompleteCB(link.subscription.get(), on_ended, &link),
        "setting a callback");
  // What arrives was asked for and is bounded by that; dropping it would look like a lost answer.
  check(natsSubscription_SetPendingLimits(link.subscription.get(), -1, -1),
        "setting the limits of the inbox");
}

void Connection::request(Channel channel, const std::string& subject,
                         const transport::Headers& headers, std::string_view payload,
                         milliseconds timeout, AnswerHandler handler) {
  constexpr std::size_t kUrgentMax = 48;
  // The caller may hold a lock that the handler takes, so the handler never runs on its thread;
  // once closed there is no other thread left.
  const auto refuse = [&](const Error& error) {
    auto shared = std::make_shared<AnswerHandler>(std::move(handler));
    if (!call_later(milliseconds(0), [shared, error] { (*shared)(error); })) (*shared)(error);
  };
  if (closed_) return refuse(Error(code::closed, "the connection is closed"));
  // What is published while disconnected would be sent after the reconnect, when its caller has
  // long been told that it failed.
  if (refused_) {
    return refuse(Error(code::access_denied, "the server closed the connection for good"));
  }
  if (!connected()) {
    return refuse(Error(code::unreachable, "not connected to a server at the moment"));
  }
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (pending_.size() > kUrgentMax) channel = Channel::bulk;
    id = next_id_++;
    if (pending_.empty()) timers_changed_.notify_one();
    pending_.emplace(id,
                     Pending{channel, subject, steady_clock::now() + timeout, std::move(handler)});
  }
  Link& out = link(channel);
  try {
    const std::string reply = fmt::format("{}.r.{}", out.inbox, id);
    if (headers.empty()) {
      check(natsConnection_PublishRequest(out.connection.get(), subject.c_str(), reply.c_str(),
                                          payload.data(), static_cast<int>(payload.size())),
            "sending a request");
    } else {
      const MessageHandle message = make_message(subject, reply, headers, payload);
      check(natsConnection_PublishMsg(out.connection.get(), message.get()), "sending a request");
    }
  } catch (const Error& error) {
    if (!call_later(milliseconds(0), [this, id, error] { answer(id, error); })) answer(id, error);
  }
}

Result<Incoming> Connection::request(const std::string& subject, std::string_view payload,
                                     milliseconds timeout) {
  auto promise = std::make_shared<std::promise<Result<Incoming>>>();
  request(Channel::urgent, subject, {}, payload, timeout,
          [promise](Result<Incoming> result) { promise->set_value(std::move(result)); });
  return promise->get_future().get();
}

void Connection::send(Channel channel, const std::string& subject, const std::string& reply,
                      std::string_view payload) {
  check(
      natsConnection_PublishRequest(link(channel).connection.get(), subject.c_str(), reply.c_str(),
                                    payload.data(), static_cast<int>(payload.size())),
      "sending");
}

bool Connection::call_later(milliseconds delay, std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  timers_.emplace(steady_clock::now() + delay, std::move(task));
  timers_changed_.notify_one();
  return true;
}

std::shared_ptr<void> Connection::on_reconnect(std::function<void()> listener) {
  auto shared = std::make_shared<std::function<void()>>(std::move(listener));
  const std::lock_guard lock(mutex_);
  std::erase_if(reconnect_listeners_, [](const auto& weak) { return weak.expired(); });
  reconnect_listeners_.push_back(shared);
  return shared;
}

bool Connection::connected() const noexcept {
  return natsConnection_Status(urgent_.connection.get()) == NATS_CONN_STATUS_CONNECTED &&
         natsConnection_Status(bulk_.connection.get()) == NATS_CONN_STATUS_CONNECTED;
}

std::string Connection::url() const {
  char buffer[512] = {};
  if (natsConnection_GetConnectedUrl(urgent_.connection.get(), buffer, sizeof buffer) != NATS_OK) {
    return {};
  }
  return redact_url(buffer);
}

std::string Connection::server_id() const {
  char buffer[128] = {};
  natsConnection_GetConnectedServerId(urgent_.connection.get(), buffer, sizeof buffer);
  return buffer;
}

std::chrono::microseconds Connection::round_trip() {
  std::int64_t nanoseconds = 0;
  check(natsConnection_GetRTT(urgent_.connection.get(), &nanoseconds), "measuring a round trip");
  return std::chrono::microseconds(nanoseconds / 1'000);
}

void Connection::close() {
  decltype(timers_) tasks;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.exchange(true)) return;
    tasks.swap(timers_);
  }
  timer_thread_.request_stop();
  {
    const std::lock_guard lock(mutex_);
    timers_changed_.notify_all();
  }
  if (timer_thread_.joinable()) timer_thread_.join();
  int ends = 0;
  for (Link* out : {&urgent_, &bulk_}) {
    if (!out->connection) continue;
    ends += out->subscription ? 2 : 1;
    // What is buffered leaves first. Draining would do that too, but looks only every 100 ms.
    if (natsConnection_Status(out->connection.get()) == NATS_CONN_STATUS_CONNECTED) {
      natsConnection_FlushTimeout(out->connection.get(), 1'000);
    }
    natsConnection_Close(out->connection.get());
  }
  {
    // The delivery threads end by themselves, and libnats tells of each closed connection on a
    // thread of its own; until then they may still call us.
    std::unique_lock lock(mutex_);
    timers_changed_.wait_for(lock, std::chrono::seconds(5), [&] { return ends_ >= ends; });
  }
  for (Link* out : {&urgent_, &bulk_}) {
    out->subscription.reset();
    out->connection.reset();
  }
  for (const auto& [time, task] : tasks) run(task);
  std::unordered_map<std::uint64_t, Pending> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(pending_);
  }
  for (const auto& [id, pending] : left) {
    finish(pending, Error(code::closed, "the connection is closed"));
  }
}

namespace {

/// Destroys messages many at a time: libnats wakes a thread of its own for each one that it is
/// given back, which under load costs more than the message itself.
void give_back(MessageHandle message) {
  constexpr std::size_t kMessages = 64;
  constexpr std::size_t kBytes = 256 * 1024;
  thread_local std::vector<MessageHandle> spent;
  thread_local std::size_t bytes = 0;
  bytes += static_cast<std::size_t>(natsMsg_GetDataLength(message.get()));
  spent.push_back(std::move(message));
  if (spent.size() < kMessages && bytes < kBytes) return;
  spent.clear();
  bytes = 0;
}

}  // namespace

void Connection::on_message(natsConnection*, natsSubscription*, natsMsg* raw,
                            void* closure) noexcept {
  MessageHandle message(raw);
  auto* link = static_cast<Link*>(closure);
  try {
    link->owner->dispatch(*link, copy_message(message.get()));
    give_back(std::move(message));
  } catch (const std::exception& e) {
    link->owner->log_.error("an arriving message could not be handled", {{"error", e.what()}});
  }
}

void Connection::dispatch(const Link& link, Incoming message) {
  std::shared_ptr<Inbox::Slot> slot;
  if (message.delivery) {
    const std::lock_guard lock(mutex_);
    const auto found = followed_.find(message.delivery->consumer);
    if (found == followed_.end()) return;  // of a consumer that was given up
    slot = found->second;
  } else {
    // <inbox>.r.<id> or <inbox>.i.<id>.<rest>
    if (message.subject.size() < link.inbox.size() + 4) return;
    const char kind = message.subject[link.inbox.size() + 1];
    std::uint64_t id = 0;
    const char* end = message.subject.data() + message.subject.size();
    std::from_chars(message.subject.data() + link.inbox.size() + 3, end, id);
    if (kind == 'r') return answer(id, std::move(message));
    const std::lock_guard lock(mutex_);
    const auto found = inboxes_.find(id);
    if (found == inboxes_.end()) return;
    slot = found->second;
  }
  const std::lock_guard lock(slot->mutex);
  if (slot->handler) slot->handler(std::move(message));
}

void Connection::answer(std::uint64_t id, Result<Incoming> result) {
  Pending pending;
  {
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(id);
    if (found == pending_.end()) return;  // came after its timeout
    pending = std::move(found->second);
    pending_.erase(found);
  }
  finish(pending, std::move(result));
}

void Connection::finish(const Pending& pending, Result<Incoming> result) noexcept {
  try {
    pending.handler(std::move(result));
  } catch (const std::exception& e) {
    log_.error("an answer could not be handled",
               {{"subject", pending.subject}, {"error", e.what()}});
  }
}

void Connection::run(const std::function<void()>& task) noexcept {
  try {
    task();
  } catch (const std::exception& e) {
    log_.error("a task of the connection failed", {{"error", e.what()}});
  }
}

void Connection::note(const Error& error) {
  if (&error.code() != &code::bad_answer) return;
  const std::uint64_t count = ++bad_answers_;
  const std::int64_t now =
      std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now().time_since_epoch())
          .count();
  if (bad_answer_logged_.exchange(now) == now) return;
  log_.warn("the server gives answers that make no sense",
            {{"code", error.code().id}, {"error", error.message()}, {"count", count}});
}

void Connection::run_timers(const std::stop_token& stop) {
  constexpr milliseconds kSweep(50);
  std::unique_lock lock(mutex_);
  auto next_sweep = steady_clock::now() + kSweep;
  while (!stop.stop_requested()) {
    const auto now = steady_clock::now();
    if (!timers_.empty() && timers_.begin()->first <= now) {
      const auto task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      lock.unlock();
      run(task);
      lock.lock();
      continue;
    }
    if (!pending_.empty() && now >= next_sweep) {
      lock.unlock();
      expire_requests(now);
      lock.lock();
      next_sweep = now + kSweep;
      continue;
    }
    auto until = steady_clock::time_point::max();
    if (!timers_.empty()) until = timers_.begin()->first;
    if (!pending_.empty()) until = std::min(until, next_sweep);
    if (until == steady_clock::time_point::max()) {
      timers_changed_.wait(lock);
    } else {
      timers_changed_.wait_until(lock, until);
    }
  }
}

void Connection::expire_requests(steady_clock::time_point now) {
  std::vector<std::uint64_t> expired;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, pending] : pending_) {
      if (pending.deadline <= now) expired.push_back(id);
    }
  }
  for (const std::uint64_t id : expired) answer(id, Error(code::timed_out, "no answer in time"));
}

void Connection::on_disconnected(natsConnection*, void* closure) noexcept {
  auto* link = static_cast<Link*>(closure);
  Connection& self = *link->owner;
  if (self.closed_) return;
  if (link->channel == Channel::urgent) self.log_.warn("connection lost, trying to reconnect");
  self.call_later(milliseconds(0),
                  [&self, channel = link->channel] { self.fail_requests(channel); });
}

/// What was asked on a connection that is lost is not answered any more. Who is told that at once
/// asks again as soon as there is another one, instead of waiting for the end of its time.
void Connection::fail_requests(Channel channel) {
  std::vector<std::uint64_t> lost;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, pending] : pending_) {
      if (pending.channel == channel) lost.push_back(id);
    }
  }
  const Error error(code::timed_out, "the connection was lost before an answer came");
  for (const std::uint64_t id : lost) answer(id, error);
}

void Connection::on_reconnected(natsConnection*, void* closure) noexcept {
  auto* link = static_cast<Link*>(closure);
  Connection& self = *link->owner;
  // Readers live on the bulk channel: it is its return that they wait for.
  if (self.closed_ || link->channel != Channel::bulk) return;
  ++self.reconnects_;
  self.log_.info("connected again", {{"reconnects", self.reconnects_.load()}});
  std::vector<std::shared_ptr<std::function<void()>>> listeners;
  {
    const std::lock_guard lock(self.mutex_);
    for (const auto& weak : self.reconnect_listeners_) {
      if (auto listener = weak.lock()) listeners.push_back(std::move(listener));
    }
  }
  for (const auto& listener : listeners) self.run(*listener);
}

void Connection::on_closed(natsConnection*, void* closure) noexcept {
  Connection& self = *static_cast<Link*>(closure)->owner;
  if (!self.closed_) {
    self.refused_ = true;
    self.log_.error("the connection was closed for good: the server refuses us");
  }
  self.count_end();
}

void Connection::on_ended(void* closure) noexcept {
  static_cast<Link*>(closure)->owner->count_end();
}

/// The last thing that a callback does: close() may destroy everything once it has counted.
void Connection::count_end() noexcept {
  const std::lock_guard lock(mutex_);
  ++ends_;
  timers_changed_.notify_all();
}

void Connection::on_error(natsConnection* connection, natsSubscription*, natsStatus status,
                          void* closure) noexcept {
  Connection& self = *static_cast<Link*>(closure)->owner;
  if (self.closed_) return;
  const char* detail = nullptr;
  natsConnection_GetLastError(connection, &detail);
  const std::string text =
      detail != nullptr && *detail != '\0' ? detail : natsStatus_GetText(status);
  self.log_.warn("the server reports an error", {{"error", text}});
  if (status == NATS_NOT_PERMITTED) self.forbid(text);
}

/// A publish that the rights of this user do not cover is not answered; the server complains
/// beside: `Permissions Violation for Publish to "subject"`.
void Connection::forbid(std::string_view violation) {
  std::vector<std::uint64_t> forbidden;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, pending] : pending_) {
      if (violation.find('"' + pending.subject + '"') != std::string_view::npos) {
        forbidden.push_back(id);
      }
    }
  }
  for (const std::uint64_t id : forbidden) {
    answer(id, Error(code::access_denied, std::string(violation)));
  }
}

}  // namespace dmm::nats
