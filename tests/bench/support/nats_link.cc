#include "tests/bench/support/nats_link.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

namespace dmm::bench {
namespace {
constexpr auto kPatience = std::chrono::seconds(30);
constexpr std::int64_t kRequestTimeoutMs = 5'000;
}  // namespace

Connection connect(const std::string& url, bool at_once) {
  natsOptions* raw = nullptr;
  check(natsOptions_Create(&raw), "options");
  const Options options(raw);
  check(natsOptions_SetURL(raw, url.c_str()), "url");
  check(natsOptions_SetSendAsap(raw, at_once), "send at once");
  natsConnection* connection = nullptr;
  check(natsConnection_Connect(&connection, raw), "connect");
  return Connection(connection);
}

Subscription::Subscription(natsConnection* connection, const std::string& subject, Handler handler)
    : handler_(std::move(handler)) {
  check(natsConnection_Subscribe(&subscription_, connection, subject.c_str(), on_message, this),
        "subscribe");
  check(natsSubscription_SetPendingLimits(subscription_, -1, -1), "pending limits");
  check(natsSubscription_SetOnCompleteCB(subscription_, on_complete, this), "on complete");
  check(natsConnection_Flush(connection), "flush");
}

Subscription::~Subscription() {
  // 3.4.1 crashes if a message arrives for a subscription that is being destroyed: end it first.
  natsSubscription_Unsubscribe(subscription_);
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [this] { return complete_; });
  }
  natsSubscription_Destroy(subscription_);
}

void Subscription::on_message(natsConnection*, natsSubscription*, natsMsg* message,
                              void* self) noexcept {
  const Message owned(message);
  try {
    static_cast<Subscription*>(self)->handler_(message);
  } catch (const std::exception& e) {
    // A benchmark that lost an answer must not print a figure.
    std::fprintf(stderr, "bare client: %s\n", e.what());
    std::exit(1);
  }
}

void Subscription::on_complete(void* self) noexcept {
  auto* subscription = static_cast<Subscription*>(self);
  const std::lock_guard lock(subscription->mutex_);
  subscription->complete_ = true;
  subscription->changed_.notify_all();
}

void Window::enter() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kPatience, [this] { return inside_ < limit_; })) {
    throw std::runtime_error("nothing was answered for 30 s");
  }
  ++inside_;
}

void Window::leave() {
  const std::lock_guard lock(mutex_);
  --inside_;
  ++left_;
  changed_.notify_all();
}

void Window::wait_for(std::size_t count) {
  std::unique_lock lock(mutex_);
  while (left_ < count) {
    const auto before = left_;
    if (!changed_.wait_for(lock, kPatience, [&] { return left_ >= count || left_ != before; })) {
      throw std::runtime_error("only " + std::to_string(left_) + " of " + std::to_string(count) +
                               " were answered");
    }
  }
}

nlohmann::json api(natsConnection* connection, const std::string& subject,
                   const nlohmann::json& request) {
  natsMsg* raw = nullptr;
  check(natsConnection_RequestString(&raw, connection, ("$JS.API." + subject).c_str(),
                                     request.is_null() ? "" : request.dump().c_str(),
                                     kRequestTimeoutMs),
        subject.c_str());
  const Message answer(raw);
  auto json = nlohmann::json::parse(natsMsg_GetData(raw),
                                    natsMsg_GetData(raw) + natsMsg_GetDataLength(raw));
  if (json.contains("error")) throw std::runtime_error(subject + ": " + json["error"].dump());
  return json;
}

std::string new_inbox() {
  natsInbox* raw = nullptr;
  check(natsInbox_Create(&raw), "inbox");
  std::string inbox(raw);
  natsInbox_Destroy(raw);
  return inbox;
}

}  // namespace dmm::bench
