#pragma once

// A connection to the NATS servers, which is really two of libnats: one that sends at once, for the
// latency path, and one that gathers what is sent within a millisecond, for bulk. Requests are
// multiplexed over one inbox on each. Reconnects for ever, also where the server refuses it: the
// files with secrets and certificates are read again for that (renewal.h).
//
// Threads: all methods from any thread. Handlers are called on the delivery thread of the channel
// or on the timer thread; they must neither block nor throw (what one throws is logged and ends
// there). For one channel, inbox messages and answers come on one thread, in the order of the wire.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dmm/connection_options.h"
#include "dmm/log.h"
#include "dmm/nats/handle.h"
#include "dmm/nats/message.h"
#include "dmm/nats/renewal.h"
#include "dmm/result.h"

namespace dmm::nats {

/// How a request leaves. `urgent` leaves at once, unless so many are under way already that
/// gathering them is faster; `bulk` may wait up to a millisecond for others.
enum class Channel : std::uint8_t { urgent, bulk };

using AnswerHandler = std::function<void(Result<Incoming>)>;
using InboxHandler = std::function<void(Incoming)>;

class Connection {
 public:
  /// Connects. Throws Error DMM-0101, 0102.
  Connection(const ConnectionOptions& options, Logger log);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Sends and calls `handler` exactly once: with the answer (which may be a status, as "nobody
  /// there"), with DMM-0103 after `timeout`, or with DMM-0101 if it was not sent.
  void request(Channel channel, const std::string& subject, const transport::Headers& headers,
               std::string_view payload, std::chrono::milliseconds timeout, AnswerHandler handler);

  /// The blocking form, on the urgent channel.
  Result<Incoming> request(const std::string& subject, std::string_view payload,
                           std::chrono::milliseconds timeout);

  /// A place where many messages arrive on the bulk channel: what is sent to `<prefix>.<anything>`
  /// and what the consumer that it follows delivers (which comes under the subject it was published
  /// on). Destroying it waits for a running handler, so it must not be done from one.
  class Inbox {
   public:
    Inbox(Connection& connection, InboxHandler handler);
    ~Inbox();
    Inbox(const Inbox&) = delete;
    Inbox& operator=(const Inbox&) = delete;
    const std::string& prefix() const noexcept { return prefix_; }
    /// Takes the deliveries of this consumer ("<stream>.<consumer>"), and no longer those of
    /// another.
    void follow(std::string consumer);

   private:
    struct Slot;
    friend class Connection;
    Connection& connection_;
    std::uint64_t id_;
    std::string prefix_;
    std::string followed_;  ///< guarded by the connection's mutex
    std::shared_ptr<Slot> slot_;
  };

  /// Sends without waiting for an answer. Throws Error if it cannot be buffered.
  void send(Channel channel, const std::string& subject, const std::string& reply,
            std::string_view payload);

  /// Calls `task` once on the timer thread after `delay`, or earlier if the connection is closed
  /// before. False, and no call, if it is closed already.
  bool call_later(std::chrono::milliseconds delay, std::function<void()> task);

  /// Logs an answer that makes no sense (DMM-0109), at most once a second, with how many there
  /// were, and that the store is full (DMM-0114). Other errors are left to who asked.
  void note(const Error& error);

  /// Calls `listener` after every reconnect, until the returned token is destroyed.
  std::shared_ptr<void> on_reconnect(std::function<void()> listener);

  bool connected() const noexcept;
  /// Why it cannot be made again, or what the server refused of late: a right that it took away,
  /// or room in its store. Empty if nothing is wrong.
  std::string trouble() const;
  std::uint64_t reconnects() const noexcept { return reconnects_; }
  std::size_t payload_bytes_max() const noexcept { return payload_bytes_max_; }
  /// The URL of the server, without credentials.
  std::string url() const;
  std::string server_id() const;
  std::chrono::microseconds round_trip();

  /// Lets buffered data leave, fails what is still asked, closes. Idempotent.
  void close();

 private:
  struct Pending {
    Channel channel;
    std::string subject;
    std::chrono::steady_clock::time_point deadline;
    AnswerHandler handler;
  };
  using Shared = std::shared_ptr<const ConnectionHandle>;  ///< by whoever is just using it
  struct Link {
    Connection* owner = nullptr;
    Channel channel{};
    std::string inbox;  ///< subjects are <inbox>.r.<request> and <inbox>.i.<inbox id>.<rest>
    std::atomic<bool> deaf{false};  ///< the server no longer lets it listen to its inbox
    mutable std::mutex mutex;       ///< guards what follows, which changes when it is made anew
    Shared connection;
    SubscriptionHandle subscription;

    Shared get() const {
      const std::lock_guard lock(mutex);
      return connection;
    }
    bool whole() const noexcept;
  };

  void connect(Link& link);
  void renew();
  void announce_reconnect();
  void dispatch(const Link& link, Incoming message);
  void answer(std::uint64_t id, Result<Incoming> result);
  void finish(const Pending& pending, Result<Incoming> result) noexcept;
  void run(const std::function<void()>& task) noexcept;
  void count_end() noexcept;
  void run_timers(const std::stop_token& stop);
  void forbid(const std::string& violation);
  void complain(const Code& code, const std::string& why);
  void expire_requests(std::chrono::steady_clock::time_point now);
  void fail_requests(Channel channel);
  Link& link(Channel channel) noexcept { return channel == Channel::urgent ? urgent_ : bulk_; }

  static void on_message(natsConnection*, natsSubscription*, natsMsg* message,
                         void* closure) noexcept;
  static void on_disconnected(natsConnection*, void* closure) noexcept;
  static void on_reconnected(natsConnection*, void* closure) noexcept;
  static void on_closed(natsConnection*, void* closure) noexcept;
  static void on_ended(void* closure) noexcept;
  static void on_error(natsConnection*, natsSubscription*, natsStatus status,
                       void* closure) noexcept;

  const ConnectionOptions options_;
  const Logger log_;
  Link urgent_;
  Link bulk_;
  std::atomic<std::uint64_t> reconnects_{0};
  std::atomic<bool> closed_{false};
  std::atomic<std::size_t> payload_bytes_max_{0};
  std::atomic<std::uint64_t> bad_answers_{0};
  std::atomic<std::int64_t> bad_answer_logged_{0};  ///< steady seconds

  mutable std::mutex mutex_;
  std::condition_variable timers_changed_;
  std::uint64_t next_id_ = 1;
  int ends_ = 0;      ///< delivery threads that ended and connections that were closed
  int ends_due_ = 0;  ///< so many were begun
  std::unordered_set<std::size_t> rights_;  ///< hashes of subjects' beginnings that were answered
  std::string violation_;                   ///< the last that the server refused us, and when
  std::chrono::steady_clock::time_point violated_at_{};
  const Code* complained_of_ = nullptr;  ///< in the log, and when
  std::chrono::steady_clock::time_point complained_at_{};
  std::unordered_map<std::uint64_t, Pending> pending_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Inbox::Slot>> inboxes_;
  std::unordered_map<std::string, std::shared_ptr<Inbox::Slot>> followed_;  ///< by consumer
  std::multimap<std::chrono::steady_clock::time_point, std::function<void()>> timers_;
  std::vector<std::weak_ptr<std::function<void()>>> reconnect_listeners_;
  std::jthread timer_thread_;
  Renewal renewal_;
};

}  // namespace dmm::nats
