#include "tests/bench/notify/bare_client.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "tests/bench/support/nats_link.h"
#include "tests/bench/support/pace.h"

namespace dmm::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPullBatch = 1'000;
constexpr std::size_t kInFlight = 256;
constexpr std::size_t kSteadyInFlight = 64;
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

std::uint64_t number_behind(std::string_view text, std::string_view label) {
  const auto at = text.find(label);
  std::uint64_t value = 0;
  if (at != std::string_view::npos) {
    const char* begin = text.data() + at + label.size();
    std::from_chars(begin, text.data() + text.size(), value);
  }
  return value;
}

std::string_view data_of(natsMsg* message) {
  return {natsMsg_GetData(message), static_cast<std::size_t>(natsMsg_GetDataLength(message))};
}

/// The stream sequence in "$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>. ...".
std::uint64_t stream_sequence(std::string_view reply) {
  for (int dots = 0; dots < 5; ++dots) reply.remove_prefix(reply.find('.') + 1);
  return number_behind(reply, "");
}

std::uint64_t last_number(std::string_view subject) {
  return number_behind(subject.substr(subject.rfind('.')), ".");
}

}  // namespace

struct BareClient::Impl {
  class Worker;

  Impl(const std::string& server_url, const std::string& ns, std::string value)
      : url(server_url),
        payload(std::move(value)),
        work("DMM_" + ns + "_WORK"),
        bucket("dmm_" + ns),
        work_prefix("dmm." + ns + ".work.player."),
        entry_prefix("$KV." + bucket + ".player."),
        connection(connect(url, false)) {
    api(connection.get(), "STREAM.CREATE." + work,
        {{"name", work},
         {"subjects", {"dmm." + ns + ".work.>"}},
         {"retention", "limits"},
         {"storage", "file"},
         {"discard", "old"},
         {"max_msgs_per_subject", 1},
         {"num_replicas", 1},
         {"duplicate_window", 10 * kNanosecondsPerSecond}});
    api(connection.get(), "STREAM.CREATE.KV_" + bucket,
        {{"name", "KV_" + bucket},
         {"subjects", {"$KV." + bucket + ".>"}},
         {"retention", "limits"},
         {"storage", "file"},
         {"discard", "new"},
         {"max_msgs_per_subject", 1},
         {"allow_rollup_hdrs", true},
         {"deny_delete", true},
         {"allow_direct", true},
         {"num_replicas", 1},
         {"duplicate_window", 10 * kNanosecondsPerSecond}});
  }

  ~Impl() {
    try {
      api(connection.get(), "STREAM.DELETE." + work, nullptr);
      api(connection.get(), "STREAM.DELETE.KV_" + bucket, nullptr);
    } catch (const std::exception&) {  // The server goes away with all it holds in any case.
    }
  }

  std::string token_subject(std::size_t identity) const {
    return work_prefix + std::to_string(identity % 64) + ".p" + std::to_string(identity);
  }
  std::string entry_subject(std::size_t identity) const {
    return entry_prefix + "p" + std::to_string(identity);
  }

  /// Publishes with a reply subject and, if given, the revision expected.
  void send(natsConnection* on, const std::string& subject, const std::string& reply,
            std::string_view data, std::optional<std::uint64_t> expected = std::nullopt) const {
    if (!expected) {
      check(natsConnection_PublishRequest(on, subject.c_str(), reply.c_str(), data.data(),
                                          static_cast<int>(data.size())),
            "publish");
      return;
    }
    natsMsg* raw = nullptr;
    check(natsMsg_Create(&raw, subject.c_str(), reply.c_str(), data.data(),
                         static_cast<int>(data.size())),
          "message");
    const Message message(raw);
    check(natsMsgHeader_Set(raw, "Nats-Expected-Last-Subject-Sequence",
                            std::to_string(*expected).c_str()),
          "header");
    check(natsConnection_PublishMsg(on, raw), "publish");
  }

  std::string create_consumer(const std::string& durable_filter) {
    const auto answer = api(connection.get(), "CONSUMER.CREATE." + work,
                            {{"stream_name", work},
                             {"config",
                              {{"deliver_policy", "all"},
                               {"ack_policy", "none"},
                               {"filter_subject", durable_filter},
                               {"max_waiting", 16},
                               {"mem_storage", true},
                               {"inactive_threshold", 30 * kNanosecondsPerSecond}}}});
    return "$JS.API.CONSUMER.MSG.NEXT." + work + "." + answer["name"].get<std::string>();
  }

  std::string url;
  std::string payload;
  std::string work;
  std::string bucket;
  std::string work_prefix;
  std::string entry_prefix;
  Connection connection;
  std::vector<std::uint64_t> revisions;
};

/// Reads tokens, writes entries and deletes tokens until it is destroyed.
class BareClient::Impl::Worker final {
 public:
  Worker(Impl& impl, bool write)
      : impl_(impl),
        write_(write),
        next_(impl.create_consumer(impl.work_prefix + ">")),
        delete_subject_("$JS.API.STREAM.MSG.DELETE." + impl.work),
        deleted_inbox_(new_inbox()),
        stored_inbox_(new_inbox()),
        token_inbox_(new_inbox()),
        deleted_(on(), deleted_inbox_ + ".*", [this](natsMsg* answer) { on_deleted(answer); }),
        stored_(on(), stored_inbox_ + ".*", [this](natsMsg* answer) { on_stored(answer); }),
        tokens_(on(), token_inbox_ + ".*", [this](natsMsg* token) { on_token(token); }) {
    // One request is always behind the one being served, so that the server never waits for us.
    pull();
    pull();
  }

  /// Waits until `count` tokens are deleted.
  void wait_for(std::size_t count) { in_flight_.wait_for(count); }

 private:
  natsConnection* on() const { return impl_.connection.get(); }

  void pull() {
    static const std::string request =
        nlohmann::json{{"batch", kPullBatch}, {"expires", 60 * kNanosecondsPerSecond}}.dump();
    impl_.send(on(), next_, token_inbox_ + ".1", request);
  }

  void on_token(natsMsg* token) {
    const char* status = nullptr;
    if (natsMsg_GetDataLength(token) == 0 &&
        natsMsgHeader_Get(token, "Status", &status) == NATS_OK) {
      throw std::runtime_error(std::string("pull ended with status ") + status);
    }
    in_flight_.enter();
    if (++received_ % kPullBatch == 0) pull();
    const std::uint64_t sequence = stream_sequence(natsMsg_GetReply(token));
    if (!write_) return erase(sequence);
    const std::string_view subject = natsMsg_GetSubject(token);
    const std::size_t identity = number_behind(subject.substr(subject.rfind('.')), ".p");
    impl_.send(on(), impl_.entry_subject(identity), stored_inbox_ + "." + std::to_string(sequence),
               data_of(token), impl_.revisions.at(identity));
  }

  void on_stored(natsMsg* answer) {
    if (data_of(answer).find("\"error\"") != std::string_view::npos) {
      throw std::runtime_error("entry refused: " + std::string(data_of(answer)));
    }
    erase(last_number(natsMsg_GetSubject(answer)));
  }

  void erase(std::uint64_t sequence) {
    const std::string number = std::to_string(sequence);
    impl_.send(on(), delete_subject_, deleted_inbox_ + "." + number,
               "{\"seq\":" + number + ",\"no_erase\":true}");
  }

  void on_deleted(natsMsg* answer) {
    if (data_of(answer).find("\"success\":true") == std::string_view::npos) {
      throw std::runtime_error("delete refused: " + std::string(data_of(answer)));
    }
    in_flight_.leave();
  }

  Impl& impl_;
  bool write_;
  Window in_flight_{kInFlight};
  std::string next_;
  std::string delete_subject_;
  std::string deleted_inbox_;
  std::string stored_inbox_;
  std::string token_inbox_;
  std::size_t received_ = 0;  // by the thread of tokens_ only
  // In the order in which they are needed by each other; ended the other way round.
  Subscription deleted_;
  Subscription stored_;
  Subscription tokens_;
};

BareClient::BareClient(const std::string& url, const std::string& ns, std::string payload)
    : impl_(std::make_unique<Impl>(url, ns, std::move(payload))) {}

BareClient::~BareClient() = default;

void BareClient::store_entries(std::size_t count) {
  Impl& impl = *impl_;
  impl.revisions.assign(count, 0);
  Window window(2'048);
  const std::string inbox = new_inbox();
  const Subscription acks(impl.connection.get(), inbox + ".*", [&](natsMsg* ack) {
    impl.revisions.at(last_number(natsMsg_GetSubject(ack))) =
        number_behind(data_of(ack), "\"seq\":");
    window.leave();
  });
  for (std::size_t i = 0; i < count; ++i) {
    window.enter();
    impl.send(impl.connection.get(), impl.entry_subject(i), inbox + "." + std::to_string(i), "{}");
  }
  window.wait_for(count);
}

BareClient::Seconds BareClient::publish(std::size_t count, std::size_t window_size) {
  Impl& impl = *impl_;
  const auto begin = Clock::now();
  Window window(window_size);
  const std::string inbox = new_inbox();
  const Subscription acks(impl.connection.get(), inbox, [&window](natsMsg*) { window.leave(); });
  for (std::size_t i = 0; i < count; ++i) {
    window.enter();
    impl.send(impl.connection.get(), impl.token_subject(i), inbox, impl.payload);
  }
  window.wait_for(count);
  return Clock::now() - begin;
}

BareClient::Seconds BareClient::drain(std::size_t count, bool write) {
  const auto begin = Clock::now();
  Impl::Worker worker(*impl_, write);
  worker.wait_for(count);
  return Clock::now() - begin;
}

BareClient::Seconds BareClient::steady(std::size_t count, std::size_t identities) {
  Impl& impl = *impl_;
  const Connection publisher = connect(impl.url, false);
  Impl::Worker worker(impl, false);
  const auto begin = Clock::now();
  Window window(kSteadyInFlight);
  const std::string inbox = new_inbox();
  const Subscription acks(publisher.get(), inbox, [&window](natsMsg*) { window.leave(); });
  for (std::size_t i = 0; i < count; ++i) {
    window.enter();
    impl.send(publisher.get(), impl.token_subject(i % identities), inbox, impl.payload);
  }
  window.wait_for(count);
  worker.wait_for(count);
  return Clock::now() - begin;
}

std::vector<BareClient::Seconds> BareClient::latencies(std::size_t count,
                                                       std::chrono::milliseconds interval) {
  Impl& impl = *impl_;
  const Connection publisher = connect(impl.url, true);
  const Connection reader = connect(impl.url, true);
  std::vector<Clock::time_point> delivered(count);
  Window deliveries(1);
  std::size_t received = 0;
  const std::string inbox = new_inbox();
  const Subscription tokens(reader.get(), inbox, [&](natsMsg*) {
    delivered.at(received++) = Clock::now();
    deliveries.leave();
  });
  const std::string next = impl.create_consumer(impl.work_prefix + ">");
  impl.send(reader.get(), next, inbox,
            nlohmann::json{{"batch", count}, {"expires", 600 * kNanosecondsPerSecond}}.dump());
  const std::string ack_inbox = new_inbox();
  Window acks(16);
  const Subscription ack_subscription(publisher.get(), ack_inbox,
                                      [&acks](natsMsg*) { acks.leave(); });
  std::vector<Seconds> result;
  auto next_at = Clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    wait_until(next_at += interval);
    acks.enter();
    deliveries.enter();
    const auto begin = Clock::now();
    impl.send(publisher.get(), impl.token_subject(i), ack_inbox, impl.payload);
    deliveries.wait_for(i + 1);
    result.emplace_back(delivered[i] - begin);
  }
  acks.wait_for(count);
  return result;
}

std::vector<BareClient::Seconds> BareClient::round_trips(std::size_t count,
                                                         std::chrono::milliseconds interval) {
  const Connection connection = connect(impl_->url, true);
  std::vector<Seconds> result;
  auto next_at = Clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    wait_until(next_at += interval);
    const auto begin = Clock::now();
    check(natsConnection_Flush(connection.get()), "flush");
    result.emplace_back(Clock::now() - begin);
  }
  return result;
}

std::uint64_t BareClient::tokens_left() {
  return api(impl_->connection.get(), "STREAM.INFO." + impl_->work, nullptr)["state"]["messages"];
}

}  // namespace dmm::bench
