#pragma once

// What bare clients of benchmarks need of libnats: a connection and a pipeline of requests.

#include <nats/nats.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

namespace dmm::bench {

inline void check(natsStatus status, const char* what) {
  if (status != NATS_OK) {
    throw std::runtime_error(std::string(what) + ": " + natsStatus_GetText(status));
  }
}

template <class T, void (*destroy)(T*)>
struct Destroy {
  void operator()(T* object) const noexcept { destroy(object); }
};
using Connection = std::unique_ptr<natsConnection, Destroy<natsConnection, natsConnection_Destroy>>;
using Message = std::unique_ptr<natsMsg, Destroy<natsMsg, natsMsg_Destroy>>;
using Options = std::unique_ptr<natsOptions, Destroy<natsOptions, natsOptions_Destroy>>;

/// at_once   each publish leaves with a system call of its own instead of within a millisecond.
Connection connect(const std::string& url, bool at_once);

/// A subscription that calls a function on a thread of its own. The destructor ends it and returns
/// when no call is running any more.
class Subscription final {
 public:
  using Handler = std::function<void(natsMsg*)>;
  Subscription(natsConnection* connection, const std::string& subject, Handler handler);
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

 private:
  static void on_message(natsConnection*, natsSubscription*, natsMsg* message, void* self) noexcept;
  static void on_complete(void* self) noexcept;

  Handler handler_;
  natsSubscription* subscription_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool complete_ = false;
};

/// Counts what is in flight and blocks above a limit. Thread-safe.
class Window final {
 public:
  explicit Window(std::size_t limit) : limit_(limit) {}
  /// Waits for room, then counts one more. Throws when there is none for 30 s.
  void enter();
  void leave();
  /// Waits until `count` have left since the window was made.
  void wait_for(std::size_t count);

 private:
  std::size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t inside_ = 0;
  std::size_t left_ = 0;
};

/// A request to the JetStream API and its answer. Throws on an error in the answer.
nlohmann::json api(natsConnection* connection, const std::string& subject,
                   const nlohmann::json& request);

std::string new_inbox();

}  // namespace dmm::bench
