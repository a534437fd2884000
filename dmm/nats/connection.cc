#include "dmm/nats/connection.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <future>
#include <utility>

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

bool Connection::Link::whole() const noexcept {
  const Shared open = get();
  return open && !deaf && natsConnection_Status(open->get()) == NATS_CONN_STATUS_CONNECTED;
}

Connection::Connection(const ConnectionOptions& options, Logger log)
    : options_(options),
      log_(std::move(log)),
      renewal_([this] { return urgent_.whole() && bulk_.whole(); }, [this] { renew(); }, log_) {
  for (Link* link : {&urgent_, &bulk_}) {
    link->owner = this;
    link->inbox = fmt::format("_INBOX.{}", wire::unique_id());
  }
  urgent_.channel = Channel::urgent;
  bulk_.channel = Channel::bulk;
  try {
    connect(urgent_);
    connect(bulk_);
    renewal_.start();
    timer_thread_ = std::jthread([this](const std::stop_token& stop) { run_timers(stop); });
  } catch (...) {
    close();
    throw;
  }
}

Connection::~Connection() {
  close();
}

/// Opens the link, in place of what it was before.
void Connection::connect(Link& link) {
  const OptionsHandle handle = make_options(options_, link.channel == Channel::urgent);
  natsOptions* raw = handle.get();
  check(natsOptions_SetDisconnectedCB(raw, on_disconnected, &link), "setting a callback");
  check(natsOptions_SetReconnectedCB(raw, on_reconnected, &link), "setting a callback");
  check(natsOptions_SetClosedCB(raw, on_closed, &link), "setting a callback");
  check(natsOptions_SetErrorHandler(raw, on_error, &link), "setting a callback");
  const auto fresh = std::make_shared<const ConnectionHandle>(connect_with(handle, options_));
  const auto begun = [this] {
    const std::lock_guard lock(mutex_);
    ++ends_due_;
  };
  begun();
  payload_bytes_max_ = static_cast<std::size_t>(natsConnection_GetMaxPayload(fresh->get()));
  // Before the new one listens, so that nothing comes twice.
  if (const Shared old = link.get()) natsConnection_Close(old->get());
  link.deaf = false;
  SubscriptionHandle subscription;
  check(natsConnection_Subscribe(subscription.out(), fresh->get(), (link.inbox + ".>").c_str(),
                                 on_message, &link),
        "subscribing to the inbox");
  check(natsSubscription_SetOnCompleteCB(subscription.get(), on_ended, &link),
        "setting a callback");
  begun();
  // What arrives was asked for and is bounded by that; dropping it would look like a lost answer.
  check(natsSubscription_SetPendingLimits(subscription.get(), -1, -1),
        "setting the limits of the inbox");
  Shared connection = fresh;  // and then the one before
  const std::lock_guard lock(link.mutex);
  link.connection.swap(connection);
  std::swap(link.subscription, subscription);
}

/// On the thread of the renewal.
void Connection::renew() {
  for (Link* link : {&urgent_, &bulk_}) {
    if (link->whole()) continue;
    connect(*link);
    fail_requests(link->channel);
    log_.info("connected anew", {{"channel", link == &bulk_ ? "bulk" : "urgent"}});
    if (link == &bulk_) announce_reconnect();
  }
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
  const Shared urgent = urgent_.get();
  const Shared bulk = bulk_.get();
  // What is published while disconnected would be sent after the reconnect, when its caller has
  // long been told that it failed.
  for (const Shared& one : {std::cref(urgent), std::cref(bulk)}) {
    if (natsConnection_Status(one->get()) == NATS_CONN_STATUS_CONNECTED) continue;
    const std::string why = renewal_.trouble();
    return refuse(Error(code::unreachable, "not connected to a server at the moment" +
                                               (why.empty() ? why : ": " + why)));
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
  natsConnection* const out = (channel == Channel::urgent ? urgent : bulk)->get();
  try {
    const std::string reply = fmt::format("{}.r.{}", link(channel).inbox, id);
    if (headers.empty()) {
      check(natsConnection_PublishRequest(out, subject.c_str(), reply.c_str(), payload.data(),
                                          static_cast<int>(payload.size())),
            "sending a request");
    } else {
      const MessageHandle message = make_message(subject, reply, headers, payload);
      check(natsConnection_PublishMsg(out, message.get()), "sending a request");
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
  const Shared out = link(channel).get();
  check(natsConnection_PublishRequest(out->get(), subject.c_str(), reply.c_str(), payload.data(),
                                      static_cast<int>(payload.size())),
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
  return urgent_.whole() && bulk_.whole();
}

std::string Connection::trouble() const {
  constexpr std::chrono::seconds kLately{15};
  if (std::string why = renewal_.trouble(); !why.empty()) return why;
  const std::lock_guard lock(mutex_);
  return steady_clock::now() - violated_at_ < kLately ? violation_ : std::string();
}

std::string Connection::url() const {
  char buffer[512] = {};
  if (natsConnection_GetConnectedUrl(urgent_.get()->get(), buffer, sizeof buffer) != NATS_OK) {
    return {};
  }
  return redact_url(buffer);
}

std::string Connection::server_id() const {
  char buffer[128] = {};
  natsConnection_GetConnectedServerId(urgent_.get()->get(), buffer, sizeof buffer);
  return buffer;
}

std::chrono::microseconds Connection::round_trip() {
  std::int64_t nanoseconds = 0;
  check(natsConnection_GetRTT(urgent_.get()->get(), &nanoseconds), "measuring a round trip");
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
  renewal_.stop();
  for (const Link* link : {&urgent_, &bulk_}) {
    const Shared out = link->get();
    if (!out) continue;
    // What is buffered leaves first. Draining would do that too, but looks only every 100 ms.
    if (natsConnection_Status(out->get()) == NATS_CONN_STATUS_CONNECTED) {
      natsConnection_FlushTimeout(out->get(), 1'000);
    }
    natsConnection_Close(out->get());
  }
  {
    // The delivery threads end by themselves, and libnats tells of each closed connection on a
    // thread of its own; until then they may still call us.
    std::unique_lock lock(mutex_);
    timers_changed_.wait_for(lock, std::chrono::seconds(5), [this] { return ends_ >= ends_due_; });
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

namespace {

constexpr std::size_t kRightsMax = 1'024;

/// What is granted together: the first three words of a subject, as "dmm.music.work".
std::size_t right_to(std::string_view subject) {
  std::size_t end = 0;
  for (int words = 0; words < 3 && end < subject.size(); ++words) {
    end = std::min(subject.find('.', end + 1), subject.size());
  }
  return std::hash<std::string_view>()(subject.substr(0, end));
}

}  // namespace

void Connection::answer(std::uint64_t id, Result<Incoming> result) {
  Pending pending;
  {
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(id);
    if (found == pending_.end()) return;  // came after its timeout
    pending = std::move(found->second);
    pending_.erase(found);
    if (result.ok() && rights_.size() < kRightsMax) rights_.insert(right_to(pending.subject));
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
  if (&error.code() == &code::store_full) return complain(error.code(), error.message());
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
  self.renewal_.look(false);
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
  // Readers live on the bulk channel: it is its return that they wait for.
  if (!link->owner->closed_ && link->channel == Channel::bulk) link->owner->announce_reconnect();
}

void Connection::announce_reconnect() {
  ++reconnects_;
  log_.info("connected again", {{"reconnects", reconnects_.load()}});
  std::vector<std::shared_ptr<std::function<void()>>> listeners;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& weak : reconnect_listeners_) {
      if (auto listener = weak.lock()) listeners.push_back(std::move(listener));
    }
  }
  for (const auto& listener : listeners) run(*listener);
}

void Connection::on_closed(natsConnection*, void* closure) noexcept {
  Connection& self = *static_cast<Link*>(closure)->owner;
  // By libnats, which does not try again, or by us, because there is another one.
  if (!self.closed_) self.renewal_.look(true);
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
  auto* link = static_cast<Link*>(closure);
  Connection& self = *link->owner;
  if (self.closed_) return;
  const char* detail = nullptr;
  natsConnection_GetLastError(connection, &detail);
  const std::string text =
      detail != nullptr && *detail != '\0' ? detail : natsStatus_GetText(status);
  if (status != NATS_NOT_PERMITTED) {
    self.log_.warn("the server reports an error", {{"error", text}});
    return;
  }
  if (text.find(link->inbox) != std::string::npos) {
    // Without its inbox it hears no answer, and what the server once dropped it does not restore.
    link->deaf = true;
    self.complain(code::right_lost, text);
    self.renewal_.look(true);
  } else {
    self.forbid(text);
  }
}

/// A publish that the rights of this user do not cover is not answered; the server complains
/// beside: `Permissions Violation for Publish to "subject"`. What was allowed before may be allowed
/// again.
void Connection::forbid(const std::string& violation) {
  std::vector<std::uint64_t> forbidden;
  const Code* code = &code::access_denied;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, pending] : pending_) {
      if (violation.find('"' + pending.subject + '"') == std::string::npos) continue;
      forbidden.push_back(id);
      if (rights_.contains(right_to(pending.subject))) code = &code::right_lost;
    }
  }
  complain(*code, violation);
  for (const std::uint64_t id : forbidden) answer(id, Error(*code, violation));
}

/// Logs it, at most every ten seconds: whoever is refused asks again and again.
void Connection::complain(const Code& code, const std::string& why) {
  constexpr std::chrono::seconds kSayAgain{10};
  {
    const auto now = steady_clock::now();
    const std::lock_guard lock(mutex_);
    violation_ = fmt::format("{}: {}", code.id, why);
    violated_at_ = now;
    if (std::exchange(complained_of_, &code) == &code && now - complained_at_ < kSayAgain) return;
    complained_at_ = now;
  }
  log_.error(code.title, {{"code", code.id}, {"error", why}, {"remedy", code.remedy}});
}

}  // namespace dmm::nats
